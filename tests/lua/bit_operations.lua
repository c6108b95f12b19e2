-- Shifts beyond the width, bit tricks, float and string operands.
print(1 << 63, 1 << 64, 1 << -1, -1 >> 1, -1 >> 63, -1 >> 64, -1 << 65, 5 >> -2)
print(~0, ~5, 6 & 3, 6 | 3, 6 ~ 3, 3.0 & 1)
print(pcall(function() return "10" | 1 end))
print(pcall(function() return 1.5 | 1 end))
print(pcall(function() return 2 ^ 63 | 1 end))
print(pcall(function() return "a" | 1 end))
print(pcall(function() return {} | 1 end))
local function popcount(v)
  local n = 0
  while v ~= 0 do v = v & (v - 1); n = n + 1 end
  return n
end
local function reverse(v)
  local r = 0
  for _ = 1, 64 do r = r << 1 | v & 1; v = v >> 1 end
  return r
end
local p, r = 0, 0
for i = 1, 4000 do
  p = p + popcount(i * 0x9E3779B97F4A7C15)
  r = r ~ reverse(i)
end
print(p, string.format("%x", r))
local a, b, c, d = 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476
for i = 1, 300000 do
  local f = (b & c) | (~b & d)
  local t = (a + f + i) & 0xffffffff
  a, d, c, b = d, c, b, (b + ((t << 7 | t >> 25) & 0xffffffff)) & 0xffffffff
end
print(string.format("%08x%08x%08x%08x", a, b, c, d))
local sieve, primes = {}, 0
for i = 2, 120000 do
  if (sieve[i >> 6] or 0) & (1 << (i & 63)) == 0 then
    primes = primes + 1
    for j = i * i, 20000, i do sieve[j >> 6] = (sieve[j >> 6] or 0) | 1 << (j & 63) end
  end
end
print(primes)
