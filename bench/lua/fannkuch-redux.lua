-- Pancake flips over all permutations of 1..n: small arrays, short inner loops.
local n = tonumber(arg and arg[1]) or 10
local p, q, count = {}, {}, {}
for i = 1, n do p[i], count[i] = i, i end
local checksum, most, sign = 0, 0, 1
while true do
  local first = p[1]
  if first ~= 1 then
    for i = 2, n do q[i] = p[i] end
    local flips = 1
    while true do
      local at = q[first]
      if at == 1 then break end
      q[first] = first
      if first >= 4 then
        local i, j = 2, first - 1
        repeat
          q[i], q[j] = q[j], q[i]
          i, j = i + 1, j - 1
        until i >= j
      end
      first = at
      flips = flips + 1
    end
    checksum = checksum + sign * flips
    if flips > most then most = flips end
  end
  if sign == 1 then
    p[1], p[2] = p[2], p[1]
    sign = -1
  else
    p[2], p[3] = p[3], p[2]
    sign = 1
    local done = false
    for i = 3, n do
      local c = count[i]
      if c ~= 1 then count[i] = c - 1; break end
      if i == n then done = true; break end
      count[i] = i
      local t = p[1]
      for j = 1, i do p[j] = p[j + 1] end
      p[i + 1] = t
    end
    if done then break end
  end
end
print(checksum, "Pfannkuchen(" .. n .. ") = " .. most)
