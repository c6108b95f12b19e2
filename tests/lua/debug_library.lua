-- Locals and upvalues read and written from outside while loops run.
local function find(name, level)
  for i = 1, 100 do
    local n, v = debug.getlocal(level + 1, i)
    if not n then return nil end
    if n == name then return i, v end
  end
end
local seen = 0
local function loop()
  local acc = 0
  for i = 1, 2000 do
    acc = acc + 1
    if i % 500 == 0 then
      local at, v = find("acc", 1)
      seen = seen + v
      debug.setlocal(1, at, v + 0.5)
    end
  end
  return acc
end
print(loop(), seen)
local counter = 0
local function bump() counter = counter + 1; return counter end
for i = 1, 2000 do
  bump()
  if i == 1000 then debug.setupvalue(bump, 1, "100") end
end
print(counter, debug.getupvalue(bump, 1))
local function a() return counter end
local other = 7
local function b() return other end
local s = 0
for i = 1, 2000 do
  s = s + b()
  if i == 1500 then debug.upvaluejoin(b, 1, function() return s end, 1) end
  s = s % 1000
end
print(s, debug.upvalueid(a, 1) ~= debug.upvalueid(b, 1))
local info = debug.getinfo(loop, "Sl")
print(info.short_src:match("[^/]*$"), info.linedefined < info.lastlinedefined, info.what)
local function level() return debug.getinfo(2, "n").name, debug.getinfo(2, "l").currentline end
local function caller() local n, l = level(); return n, l end
local names = {}
for _ = 1, 500 do local n = caller(); names[n or "?"] = (names[n or "?"] or 0) + 1 end
print(names.caller)
local active = {}
for l in pairs(debug.getinfo(caller, "L").activelines) do active[#active + 1] = l end
print(#active)
local mt = {}
debug.setmetatable(0, mt)
mt.__index = function(n, k) return k .. n end
local t = 0
for i = 1, 1000 do t = t + #(i).digit end
debug.setmetatable(0, nil)
print(t, pcall(function() return (5).x end))
debug.setmetatable(nil, { __add = function(_, o) return o or 0 end })
local z = 0
for i = 1, 1000 do z = z + (nil + i) end
debug.setmetatable(nil, nil)
print(z)
print(#debug.traceback("msg", 1) > 10, debug.traceback({}) ~= nil, debug.getregistry() ~= nil)
