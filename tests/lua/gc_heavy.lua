-- Allocation in every turn, under every mode of the collector.
local function churn(n)
  local keep, s = {}, 0
  for i = 1, n do
    local node = { id = i, next = keep[i % 64], name = "n" .. i % 100 }
    keep[i % 64] = i % 5 ~= 0 and node or nil
    local other = keep[(i * 7) % 64]
    if other then s = s + other.id % 10 + #other.name end
    if node.next and node.next.next then node.next.next = nil end
  end
  return s
end
collectgarbage("incremental", 100, 400, 10)
print(churn(15000))
collectgarbage("generational", 20, 100)
print(churn(15000))
print(collectgarbage("incremental", 200, 100, 13))
print(churn(10000))
collectgarbage("stop")
print(churn(3000), collectgarbage("isrunning"))
collectgarbage("restart")
for i = 1, 300 do collectgarbage("step", i % 7); churn(20) end
for _ = 1, 10 do collectgarbage() end
print(collectgarbage("count") < 4000, collectgarbage("isrunning"))
local closures = {}
for i = 1, 10000 do closures[i % 50 + 1] = function() return i end end
local s = 0
for _, f in ipairs(closures) do s = s + f() end
print(s)
local strings = 0
for i = 1, 10000 do strings = strings + #(("x"):rep(i % 50) .. i) end
print(strings)
local cos = 0
for i = 1, 1500 do
  local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1); return b * 2 end)
  cos = cos + co(i) + co(i)
end
print(cos)
