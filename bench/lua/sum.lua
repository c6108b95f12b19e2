-- The sum of whole numbers, of every seventh, and of their reciprocals.
local n = tonumber(arg and arg[1]) or 250000000
local s = 0
for i = 1, n do s = s + i end
local t = 0
local i = 0
while i < n do
  t = t ~ i
  i = i + 7
end
local r = 0.0
for k = 1, n // 4 do r = r + 1.0 / k end
print(s, t, string.format("%.9f", r))
