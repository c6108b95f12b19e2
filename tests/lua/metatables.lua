-- __index chains, __newindex, __call, __len, __eq, __lt, __concat, __unm, __close, rawset.
local Base = {}
Base.__index = Base
function Base.new(x) return setmetatable({ x = x }, Base) end
function Base:get() return self.x end
function Base:twice() return self:get() * 2 end
local Derived = setmetatable({}, { __index = Base })
Derived.__index = Derived
function Derived.new(x) return setmetatable(Base.new(x), Derived) end
function Derived:get() return self.x + 1 end
local s = 0
for i = 1, 100000 do
  local o = i % 3 == 0 and Base.new(i) or Derived.new(i)
  s = s + o:twice()
end
print(s)
local log = {}
local proxy = setmetatable({}, {
  __index = function(_, k) return type(k) == "number" and k * 10 or nil end,
  __newindex = function(t, k, v) log[#log + 1] = k; if #log <= 100 then rawset(t, k, v + 1) end end,
  __call = function(self, a, b) return a + b + self[1] end,
  __len = function() return 77 end,
  __unm = function() return "neg" end,
  __concat = function(a, b) return (type(a) == "table" and "P" or a) .. "|" .. (type(b) == "table" and "P" or b) end,
})
for i = 1, 5000 do proxy[i] = i end
local p = 0
for i = 1, 5000 do p = p + proxy[i] + proxy(i, 1) end
print(#log, p, #proxy, -proxy, proxy .. "a", "a" .. proxy, 1 .. proxy)
local V = {}
V.__index = V
local function vec(x, y) return setmetatable({ x = x, y = y }, V) end
V.__add = function(a, b) return vec(a.x + b.x, a.y + b.y) end
V.__mul = function(a, b) if type(a) == "number" then return vec(a * b.x, a * b.y) end return a.x * b.x + a.y * b.y end
V.__eq = function(a, b) return a.x == b.x and a.y == b.y end
V.__lt = function(a, b) return a.x < b.x end
V.__le = function(a, b) return a.x <= b.x end
V.__tostring = function(a) return "(" .. a.x .. "," .. a.y .. ")" end
V.__idiv = function(a, n) return vec(a.x // n, a.y // n) end
V.__band = function(a, b) return a.x & b end
local v = vec(0, 0)
for i = 1, 10000 do v = v + 2 * vec(i, -i) if v * v > 1 << 40 then v = v // 2 end end
print(tostring(v), v == vec(v.x, v.y), v ~= vec(0, 0), vec(1, 2) < vec(2, 1), vec(2, 0) <= vec(1, 0), v & 255)
local order = {}
do
  local a <close> = setmetatable({}, { __close = function(_, e) order[#order + 1] = "a" .. tostring(e) end })
  for i = 1, 3 do
    local b <close> = setmetatable({}, { __close = function() order[#order + 1] = "b" .. i end })
    if i == 2 then goto out end
  end
  ::out::
end
print(table.concat(order, " "))
print(pcall(function()
  local a <close> = setmetatable({}, { __close = function(_, e) order[#order + 1] = tostring(e) end })
  error("inside", 0)
end), order[#order])
print(pcall(function() local x <close> = 42 end))
print(getmetatable("").__index == string, getmetatable(setmetatable({}, { __metatable = "locked" })))
print(pcall(setmetatable, setmetatable({}, { __metatable = 1 }), {}))
print(pcall(function() return {} < {} end))
print(pcall(function() return #5 end))
print(pcall(function() local t = {} t.x.y = 1 end))
