-- exit: 1
-- The error is an object with __tostring, thrown through coroutines and close variables.
local E = setmetatable({}, { __tostring = function() return "custom error object" end })
local c <close> = setmetatable({}, { __close = function(_, e) print("closing with", tostring(e)) end })
local co = coroutine.wrap(function()
  for i = 1, 5000 do
    if i == 4321 then error(E) end
    if i % 100 == 0 then coroutine.yield(i) end
  end
end)
while true do
  local v = co()
  if v % 1000 == 0 then print(v) end
end
