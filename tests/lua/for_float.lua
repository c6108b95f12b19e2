-- Float loops: accumulated steps, bounds that are not met exactly, infinities, NaN.
local function run(a, b, c)
  local n, sum = 0, 0.0
  for x = a, b, c do
    n = n + 1
    sum = sum + x
    if n >= 5000 then break end
  end
  return string.format("%d %.17g", n, sum)
end
print(run(0.0, 1.0, 0.1))
print(run(1.0, 0.0, -0.1))
print(run(0, 1, 0.25))
print(run(0.0, 100.0, 1))
print(run(1e15, 1e15 + 10, 0.5))
print(run(1.0, math.huge, 1e300))
print(run(-1.0, -math.huge, -1e305))
print(run(1.0, 0 / 0, 1.0))
print(run(-0.0, 0.0, 1.0))
print(pcall(run, 1.0, 2.0, 0.0))
local s = 0.0
for x = 1.0, 200000.0 do s = s + 1.0 / (x * x) end
print(string.format("%.12f", s))
local p = 0.0
for i = 0, 100000 do
  local term = 1.0 / (2 * i + 1)
  if i % 2 == 0 then p = p + term else p = p - term end
end
print(string.format("%.9f", 4 * p))
for _, bad in ipairs { "x", {}, true } do
  print(select(2, pcall(function() for i = 1, bad do end end)))
  print(select(2, pcall(function() for i = bad, 1 do end end)))
  print(select(2, pcall(function() for i = 1, 2, bad do end end)))
end
