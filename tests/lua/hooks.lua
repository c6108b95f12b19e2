-- Hooks that are set while a loop is hot: count, line, call and return; from coroutines.
local counted = 0
local function hot(n) local s = 0 for i = 1, n do s = s + i % 3 end return s end
print(hot(300000))
debug.sethook(function() counted = counted + 1 end, "", 100)
print(hot(300000))
debug.sethook()
print(counted > 9000, counted < 40000)
local fixed = counted
print(hot(5000), counted == fixed)
-- A hook that is set in the middle of a running loop, and removed by itself.
local lines, s = {}, 0
for i = 1, 6000 do
  if i == 3000 then debug.sethook(function(_, l) lines[#lines + 1] = l end, "l") end
  s = s + i
  if i == 3005 then debug.sethook() end
end
print(s, #lines)
print(table.concat(lines, " ", 1, math.min(#lines, 20)))
local calls, returns = 0, 0
local function callee(x) return x + 1 end
debug.sethook(function(e) if e == "return" then returns = returns + 1 else calls = calls + 1 end end, "cr")
local v = 0
for _ = 1, 500 do v = callee(v) end
debug.sethook()
print(v, calls, returns)
-- A count hook that raises an error out of a loop that would never end.
local function limit(n, f)
  local left = n
  local co = coroutine.create(f)
  debug.sethook(co, function() left = left - 1; if left == 0 then error("too long", 0) end end, "", 1000)
  return coroutine.resume(co)
end
print(limit(10, function() while true do end end))
print(limit(10, function() local i = 0 repeat i = i + 1 until false end))
print(limit(10, function() for i = 1, math.huge do end end))
print(limit(10, function() ::l:: goto l end))
print(limit(10, function() for _ in function() return 1 end do end end))
print(limit(1000, function() return hot(1000) end))
local tails = 0
debug.sethook(function(e) if e == "tail call" then tails = tails + 1 end end, "c")
local function t(n) if n == 0 then return 0 end return t(n - 1) end
t(1000)
debug.sethook()
print(tails)
print(debug.gethook())
