-- Conway's life on a torus, from the R pentomino.
local generations = tonumber(arg and arg[1]) or 1000
local w, h = 128, 128
local cells = {}
for i = 0, w * h - 1 do cells[i] = 0 end
for _, p in ipairs { { 1, 0 }, { 2, 0 }, { 0, 1 }, { 1, 1 }, { 1, 2 } } do cells[(p[2] + 60) * w + p[1] + 60] = 1 end
local function step(old)
  local new = {}
  for y = 0, h - 1 do
    local up, row, down = (y - 1) % h * w, y * w, (y + 1) % h * w
    for x = 0, w - 1 do
      local l, r = (x - 1) % w, (x + 1) % w
      local n = old[up + l] + old[up + x] + old[up + r] + old[row + l] + old[row + r]
        + old[down + l] + old[down + x] + old[down + r]
      if n == 3 then new[row + x] = 1
      elseif n == 2 then new[row + x] = old[row + x]
      else new[row + x] = 0 end
    end
  end
  return new
end
for _ = 1, generations do cells = step(cells) end
local alive, hash = 0, 0
for i = 0, w * h - 1 do
  alive = alive + cells[i]
  hash = (hash * 3 + cells[i]) % 1000000007
end
print(alive, hash)
