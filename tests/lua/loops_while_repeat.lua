-- while and repeat loops with every way out of them.
local function collatz(n)
  local steps = 0
  while n ~= 1 do
    if n % 2 == 0 then n = n // 2 else n = 3 * n + 1 end
    steps = steps + 1
  end
  return steps
end
local longest, at = 0, 0
for i = 1, 3000 do
  local s = collatz(i)
  if s > longest then longest, at = s, i end
end
print(longest, at)
local function isqrt(n)
  local x, y = n, nil
  repeat
    y = x
    x = (y + n // y) // 2
  until x >= y
  return y
end
local sum = 0
for n = 1, 120000 do sum = sum + isqrt(n) end
print(sum)
-- The condition of repeat sees the locals of the body.
local seen = 0
repeat
  local done = seen >= 5000
  seen = seen + 1
until done
print(seen)
local i = 0
while true do
  i = i + 1
  if i > 120000 then break end
  local j = 0
  while j < 10 do
    j = j + 1
    if (i + j) % 17 == 0 then break end
  end
  sum = sum + j
end
print(i, sum)
local a, b, turns = 1071 * 1000, 462 * 1000, 0
repeat
  local x, y = a, b
  while y ~= 0 do x, y = y, x % y end
  turns = turns + x
  a, b = a - 1, b - 1
until b < 460000
print(turns)
print(collatz(27), isqrt(10 ^ 6 // 1))
