-- A loop that got hot with one type goes on with others.
local function total(values)
  local s = 0
  for i = 1, #values do s = s + values[i] end
  return s
end
local ints, floats, strings, mixed = {}, {}, {}, {}
for i = 1, 2000 do
  ints[i] = i
  floats[i] = i + 0.5
  strings[i] = tostring(i)
  mixed[i] = i % 3 == 0 and i or i % 3 == 1 and i / 2 or tostring(i)
end
for _ = 1, 10 do print(total(ints), total(floats), total(strings), total(mixed)) end
-- One variable: integer, float, string, and back.
local v = 0
for i = 1, 300000 do
  if i == 20000 then v = v + 0.0 end
  if i == 30000 then v = tostring(v) end
  if i == 40000 then v = math.tointeger(tonumber(v)) end
  v = v + 1
end
print(v, math.type(v))
local grow = 1
for i = 1, 200 do grow = grow * 3 if i == 100 then grow = grow + 0.0 end end
print(grow)
-- Bounds that change type between runs of one loop.
local function span(a, b, c)
  local n, s = 0, 0
  for i = a, b, c do n = n + 1; s = s + i end
  return n, s
end
for round = 1, 300 do
  local k = round % 3
  local n, s
  if k == 0 then n, s = span(1, 50, 1) elseif k == 1 then n, s = span(1.0, 50, 1) else n, s = span(1, 50, 1.5) end
  if round > 294 then print(n, s) end
end
local function add(a, b) return a + b end
local meta = setmetatable({}, { __add = function(_, o) return 1000 + (tonumber(o) or 0) end })
local out = {}
for i = 1, 3000 do
  local operand = i < 1000 and i or i < 2000 and i / 4 or i < 2500 and tostring(i) or meta
  local r = add(operand, 1)
  if i % 500 == 0 then out[#out + 1] = tostring(r) end
end
print(table.concat(out, " "))
