-- One call site, many callees: Lua and C functions, methods, callable tables.
local shapes = {}
local function class(area) local c = {}; c.__index = c; c.area = area; return c end
local Square = class(function(s) return s.a * s.a end)
local Rect = class(function(s) return s.a * s.b end)
local Circle = class(function(s) return s.a * s.a * 3 end)
local Tri = class(function(s) return s.a * s.b // 2 end)
local classes = { Square, Rect, Circle, Tri }
for i = 1, 400 do shapes[i] = setmetatable({ a = i % 17, b = i % 13 }, classes[i % 4 + 1]) end
local sum = 0
for _ = 1, 60 do for i = 1, #shapes do sum = sum + shapes[i]:area() end end
print(sum)
local callable = setmetatable({}, { __call = function(_, x) return x * 2 end })
local fs = { math.abs, function(x) return -x end, math.floor, callable, tostring, function(...) return select("#", ...) end, string.len }
local acc = 0
for i = 1, 120000 do
  local r = fs[i % #fs + 1](i % 2 == 0 and i or -i)
  acc = acc + (tonumber(r) or 0)
end
print(acc)
local ops = { ["+"] = function(a, b) return a + b end, ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b % 1000003 end, ["max"] = math.max }
local program = { "+", "*", "-", "max", "+", "max" }
local v = 1
for i = 1, 120000 do v = ops[program[i % 6 + 1]](v, i) % 1000003 end
print(v)
-- The callee of a hot site is replaced.
local function f(x) return x + 1 end
local t = { f = f }
local s = 0
for i = 1, 9000 do
  if i == 3000 then t.f = function(x) return x + 2 end end
  if i == 6000 then t.f = math.sqrt end
  s = s + t.f(i)
end
print(string.format("%.6f", s))
_G.global_function = function(x) return x end
for i = 1, 9000 do
  if i == 4000 then global_function = function(x) return -x end end
  s = s + global_function(i)
end
print(string.format("%.6f", s))
