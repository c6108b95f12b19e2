-- Integer arithmetic wraps around; // and % round towards minus infinity.
local x = math.maxinteger
print(x + 1 == math.mininteger, x * 2, -math.mininteger == math.mininteger)
local h = 1469598103934665603
for i = 1, 100000 do
  h = (h ~ (i & 255)) * 1099511628211
end
print(string.format("%016x", h))
local d, m = 0, 0
for i = -3000, 3000 do
  for j = -6, 6 do
    if j ~= 0 then
      local q, r = i // j, i % j
      assert(q * j + r == i and (r == 0 or (r < 0) == (j < 0)))
      d, m = d + q, m + r
    end
  end
end
print(d, m)
print(math.mininteger // -1, math.mininteger % -1)
print(pcall(function() return 1 // 0 end))
print(pcall(function() return 1 % 0 end))
print(7 // 2, -7 // 2, 7 // -2, -7 // -2, 7 % 3, -7 % 3, 7 % -3, -7 % -3)
print(7.5 // 2, -7.5 // 2, 5.5 % -2, -5.5 % 2, 1 // 0.0, -1 // 0.0, 5 % math.huge, -5 % math.huge)
print(3 / 2, 4 / 2, 2 ^ 10, 10 // 3.0, 1e308 * 10, math.tointeger(3.0), math.tointeger(3.5))
print(math.ult(1, -1), math.abs(math.mininteger), math.fmod(-7, 3), math.fmod(7, -3))
local seed = 42
local function rnd() seed = (seed * 6364136223846793005 + 1442695040888963407); return seed >> 33 end
local buckets = {}
for i = 0, 7 do buckets[i] = 0 end
for _ = 1, 80000 do local b = rnd() & 7; buckets[b] = buckets[b] + 1 end
print(table.concat(buckets, " ", 0, 7))
