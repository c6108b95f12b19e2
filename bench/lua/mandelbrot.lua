-- Escape times of a grid of points: pure float loops, one bit per point.
local n = tonumber(arg and arg[1]) or 1500
local limit = 50
local bits, checksum = 0, 0
for y = 0, n - 1 do
  local ci = 2.0 * y / n - 1.0
  local byte, filled = 0, 0
  for x = 0, n - 1 do
    local cr = 2.0 * x / n - 1.5
    local zr, zi, tr, ti = 0.0, 0.0, 0.0, 0.0
    local inside = 1
    for _ = 1, limit do
      zi = 2.0 * zr * zi + ci
      zr = tr - ti + cr
      tr, ti = zr * zr, zi * zi
      if tr + ti > 4.0 then inside = 0; break end
    end
    byte = byte << 1 | inside
    filled = filled + 1
    if filled == 8 then
      checksum = (checksum * 31 + byte) & 0xffffffff
      byte, filled = 0, 0
    end
    bits = bits + inside
  end
  if filled > 0 then checksum = (checksum * 31 + (byte << (8 - filled))) & 0xffffffff end
end
print(bits, checksum)
