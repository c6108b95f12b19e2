-- Upvalues: shared, per turn of a loop, closed while hot, counters, currying.
local fs = {}
for i = 1, 1000 do
  local j = i * 2
  fs[i] = function(d) j = j + d; return i + j end
end
local s = 0
for _ = 1, 30 do for i = 1, #fs do s = s + fs[i](1) end end
print(s)
local function counter()
  local n = 0
  return function() n = n + 1; return n end, function() return n end, function(v) n = v end
end
local inc, get, set = counter()
for _ = 1, 300000 do inc() end
set(get() * 2)
for _ = 1, 10 do inc() end
print(get())
local function compose(...)
  local list = { ... }
  return function(x)
    for i = #list, 1, -1 do x = list[i](x) end
    return x
  end
end
local f = compose(function(x) return x + 1 end, function(x) return x * 2 end, function(x) return x - 3 end)
local acc = 0
for i = 1, 120000 do acc = acc + f(i) end
print(acc)
local function curry(a) return function(b) return function(c) return a * b + c end end end
for i = 1, 30000 do acc = acc + curry(i)(2)(3) end
print(acc)
-- An upvalue that a loop changes while it is open, then after it was closed.
local function opened()
  local v = 0
  local reader = function() return v end
  local seen = 0
  for i = 1, 30000 do v = v + i; seen = seen + reader() % 3 end
  return reader, function() v = v + 1 end, seen
end
local r, w, seen = opened()
for _ = 1, 30000 do w() end
print(r(), seen)
local function memo(fn)
  local cache = {}
  return function(n)
    local hit = cache[n]
    if hit == nil then hit = fn(n); cache[n] = hit end
    return hit
  end
end
local fib
fib = memo(function(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end)
print(fib(80))
local Y = function(g) return (function(x) return x(x) end)(function(x) return g(function(...) return x(x)(...) end) end) end
print(Y(function(self) return function(n) return n == 0 and 1 or n * self(n - 1) end end)(20))
