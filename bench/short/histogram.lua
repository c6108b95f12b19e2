-- Sums of dice, shown as bars.
local seed, counts = 99, {}
for _ = 1, 1420000 do
  local s = 0
  for _ = 1, 3 do seed = (seed * 1103515245 + 12345) & 0x7fffffff; s = s + (seed >> 16) % 6 + 1 end
  counts[s] = (counts[s] or 0) + 1
end
for s = 3, 18 do print(("%2d %6d %s"):format(s, counts[s] or 0, ("#"):rep((counts[s] or 0) // 5000))) end
