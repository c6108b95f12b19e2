-- Iteration and arithmetic driven by metamethods: a call of Lua from C in every turn.
local Range = {}
Range.__index = Range
Range.__call = function(self, _, i)
  i = i + self.step
  if i <= self.last then return i end
end
local function range(a, b, s) return setmetatable({ last = b, step = s or 1 }, Range), nil, a - (s or 1) end
local n = 0
for i in range(1, 20000) do n = n + i end
for i in range(1, 20000, 3) do n = n - i end
print(n)
local paired = setmetatable({}, {
  __pairs = function(t)
    return function(_, k) k = (k or 0) + 1; if k <= 500 then return k, k * k end end, t, nil
  end,
})
local s = 0
for _ = 1, 20 do for k, v in pairs(paired) do s = s + v - k end end
print(s)
local C = {}
C.__index = C
local function c(re, im) return setmetatable({ re = re, im = im }, C) end
C.__add = function(a, b) return c(a.re + b.re, a.im + b.im) end
C.__mul = function(a, b) return c(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re) end
C.__len = function(a) return math.sqrt(a.re * a.re + a.im * a.im) end
local inside = 0
for y = -10, 10 do
  for x = -20, 10 do
    local z, k = c(0.0, 0.0), c(x / 10, y / 10)
    local turns = 0
    while turns < 20 and #z < 2 do z = z * z + k; turns = turns + 1 end
    if turns == 20 then inside = inside + 1 end
  end
end
print(inside)
local depth = {}
for i = 1, 10 do depth = setmetatable({}, { __index = depth }) end
local top = depth
rawset(getmetatable(getmetatable(top).__index).__index, "deep", 3)
local d = 0
for _ = 1, 120000 do d = d + top.deep end
print(d)
-- The metatable changes under a hot loop.
local t = setmetatable({}, { __index = function() return 1 end })
local acc = 0
for i = 1, 120000 do
  if i == 5000 then setmetatable(t, { __index = { v = 2 } }) end
  if i == 10000 then rawset(t, "v", 3) end
  if i == 15000 then setmetatable(t, nil); t.v = nil; t.v = 4 end
  acc = acc + t.v
end
print(acc)
local set = setmetatable({}, { __newindex = function(t, k, v) rawset(t, k, v * 2) end })
for i = 1, 3000 do set[i] = i; set[i] = set[i] + 1 end
local total = 0
for i = 1, 3000 do total = total + set[i] end
print(total)
