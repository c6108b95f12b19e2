-- pcall, xpcall, error objects, levels, tracebacks, errors out of hot loops.
local caught, sum = 0, 0
for i = 1, 30000 do
  local ok, e = pcall(function(n)
    if n % 7 == 0 then error({ code = n }) end
    if n % 11 == 0 then error("text " .. n, 0) end
    if n % 13 == 0 then error() end
    return n
  end, i)
  if ok then sum = sum + e else
    caught = caught + 1
    if type(e) == "table" then sum = sum - e.code elseif e == nil then sum = sum + 1 else sum = sum - #e end
  end
end
print(caught, sum)
local function thrower(n)
  for i = 1, n do if i == n - 1 then error("loop " .. i, 2) end end
end
for n = 10, 2000, 398 do print(pcall(thrower, n)) end
print(xpcall(function() local x = nil; return x.field end, function(m) return "handled: " .. m end))
print(xpcall(function(...) return select("#", ...) end, print, 1, nil, 3))
local function a() error("deep") end
local function b() a() ; return 1 end
local function c() b() ; return 1 end
local _, trace = xpcall(c, debug.traceback)
print(trace:match("^[^\n]*\n[^\n]*"), select(2, trace:gsub("\n", "")) >= 5)
print(pcall(error))
print(pcall(error, nil))
print(pcall(error, setmetatable({}, { __tostring = function() return "obj" end })) == false)
print(select(2, pcall(function() return 1 + {} end)))
print(select(2, pcall(function() return #nil end)))
print(select(2, pcall(function() local t = setmetatable({}, { __index = function() error("index", 0) end }); return t.x end)))
print(select(2, pcall(function() undefined_function() end)))
print(select(2, pcall(function() local s = "x"; s:nomethod() end)))
print(select(2, pcall(function() return 1 < "2" end)))
print(select(2, pcall(function() return 2 ^ 53 // 0 | 0 end)))
print(select(2, pcall(string.rep)))
print(select(2, pcall(setmetatable, 1, {})))
-- A failing type in a loop that is hot.
local values = {}
for i = 1, 3000 do values[i] = i end
values[2500] = {}
local at
print(pcall(function() local s = 0 for i = 1, #values do at = i; s = s + values[i] end return s end))
print(at)
-- Errors in error handlers, nested pcalls in a loop.
print(xpcall(function() error("first") end, function() error("second") end) == false)
local depth = 0
local function nest(n) if n == 0 then error("bottom", 0) end local ok, e = pcall(nest, n - 1); depth = depth + 1; error(e, 0) end
print(pcall(nest, 100), depth)
local total = 0
for i = 1, 3000 do
  local ok, v = pcall(pcall, error, i)
  total = total + (ok and 1 or 0) + (v and 100 or 0)
end
print(total)
print(assert(1, "unused"), pcall(assert, false, "message"), pcall(assert, nil), pcall(assert))
print(tostring(nil), select("#", pcall(error, 1, 2)))
