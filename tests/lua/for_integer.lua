-- Integer loops: edges of the range, steps of either sign, loops that do not run.
local function count(a, b, c)
  local n, first, last = 0, nil, nil
  for i = a, b, c do
    n = n + 1
    first = first or i
    last = i
  end
  return n, first, last
end
print(count(1, 10, 1), count(10, 1, -1))
print(count(1, 0, 1), count(0, 1, -1))
print(count(math.maxinteger - 3, math.maxinteger, 1))
print(count(math.mininteger + 3, math.mininteger, -1))
print(count(math.mininteger, math.maxinteger, math.maxinteger))
print(count(math.maxinteger, math.mininteger, math.mininteger))
print(count(-5, 5, 3), count(5, -5, -3))
print(count(1, 3.9, 1), count(1, -0.5, -1), count(3, 1.5, -1))
print(count(1, math.huge, math.maxinteger // 4))
print(count(-1, -math.huge, math.mininteger // 4))
print(pcall(count, 1, 10, 0))
local sum = 0
for i = 1, 300000 do sum = sum + i * i % 7 end
print(sum)
for i = 100000, -100000, -7 do sum = sum ~ i end
print(sum)
local grid = 0
for i = 1, 120 do
  for j = i, 120, 2 do
    for k = j, i, -1 do grid = grid + (i ~ j) % (k + 1) end
  end
end
print(grid)
-- The variable can be assigned to without changing the count.
local turns = 0
for i = 1, 1000 do i = i * 2; turns = turns + 1 end
print(turns)
