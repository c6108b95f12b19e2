-- Recursion: deep, mutual, through C, overflow that is caught, Ackermann.
local function depth(n) if n == 0 then return 0 end return 1 + depth(n - 1) end
print(depth(10), depth(15000), depth(150000))
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print(fib(22))
local function ack(m, n)
  if m == 0 then return n + 1 end
  if n == 0 then return ack(m - 1, 1) end
  return ack(m - 1, ack(m, n - 1))
end
print(ack(2, 60))
local even, odd
function even(n) if n == 0 then return true end return odd(n - 1) end
function odd(n) if n == 0 then return false end return even(n - 1) end
print(even(50000), odd(50001), even(7))
local function overflow(n) return 1 + overflow(n + 1) end
local ok, e = pcall(overflow, 1)
print(ok, (tostring(e):gsub("\n.*", "")):match("stack overflow") ~= nil)
-- Recursion through pcall and through string.gsub: limited by the C stack.
local function through(n) if n == 0 then return 0 end local _, v = pcall(through, n - 1); return v + 1 end
print(through(150))
local function nested(n) return (("x"):gsub("x", function() return n == 0 and "done" or nested(n - 1) end)) end
print(nested(100))
print(select(2, pcall(nested, 100000)):match("overflow") ~= nil)
local function tak(x, y, z) if y >= x then return z end return tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y)) end
print(tak(12, 8, 4))
local function hanoi(n, a, b, c, moves) if n == 0 then return moves end
  moves = hanoi(n - 1, a, c, b, moves) + 1
  return hanoi(n - 1, c, b, a, moves) end
print(hanoi(14, 1, 2, 3, 0))
-- Loops inside recursion.
local function tree(d) local s = 0 for i = 1, 3 do s = s + i + (d > 0 and tree(d - 1) or 0) end return s end
print(tree(7))
for round = 1, 3 do
  local ok2, e2 = pcall(function() local function f() local t = {} for i = 1, 3 do t[i] = f() end return t end return f() end)
  print(ok2, tostring(e2):match("stack overflow"))
end
