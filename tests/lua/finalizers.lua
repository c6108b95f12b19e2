-- __gc: order, resurrection, errors (warned), allocation inside, at the end of the state.
local order = {}
local function obj(n) return setmetatable({ n = n }, { __gc = function(o) order[#order + 1] = o.n end }) end
for i = 1, 5 do obj(i) end
collectgarbage()
print(table.concat(order, " "))
local finalized, s = 0, 0
local meta = { __gc = function(o)
  finalized = finalized + 1
  for i = 1, 5 do s = s + i * o.v % 3 end
end }
for i = 1, 8000 do
  local o = setmetatable({ v = i }, meta)
  if i % 1000 == 0 then collectgarbage("step") end
end
collectgarbage()
collectgarbage()
print(finalized, s)
local saved
do
  local o = setmetatable({}, { __gc = function(x) saved = x end })
  o.mark = "resurrected"
end
collectgarbage()
print(saved and saved.mark)
local at_exit = setmetatable({}, { __gc = function() io.write("finalized at the end\n") end })
local closing = {}
for i = 1, 300 do
  local c <close> = setmetatable({}, { __close = function() closing[#closing + 1] = i end })
end
print(#closing, closing[300])
warn("@on")
setmetatable({}, { __gc = function() error("in a finalizer", 0) end })
collectgarbage()
warn("@off")
local weak = setmetatable({}, { __mode = "v" })
for i = 1, 100 do weak[i] = {} end
collectgarbage()
local left = 0
for _ in pairs(weak) do left = left + 1 end
print(left)
print(at_exit ~= nil)
