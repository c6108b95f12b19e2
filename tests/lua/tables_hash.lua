-- Hashes: keys of every type, removal while iterating, next, integer-valued floats.
local t = {}
for i = 1, 30000 do t["k" .. i] = i end
local n, s = 0, 0
for k, v in pairs(t) do
  n, s = n + 1, s + v
  if v % 2 == 0 then t[k] = nil end
end
print(n, s)
n, s = 0, 0
local k, v = next(t)
while k do
  n, s = n + 1, s + v
  k, v = next(t, k)
end
print(n, s)
local mixed = { [1] = "a", [2.0] = "b", [2.5] = "c", [true] = "d", ["1"] = "e" }
print(mixed[1.0], mixed[2], mixed[2.5], mixed[true], mixed["1"], mixed[false], mixed[3])
print(pcall(function() mixed[nil] = 1 end))
print(pcall(function() mixed[0 / 0] = 1 end))
print(mixed[nil], rawlen({ 1, 2 }), rawequal(mixed, mixed), rawget(mixed, 1))
local counts = {}
for i = 1, 300000 do
  local key = i * i % 97
  counts[key] = (counts[key] or 0) + 1
end
local keys = {}
for key in pairs(counts) do keys[#keys + 1] = key end
table.sort(keys)
local check = 0
for i, key in ipairs(keys) do check = (check * 31 + key * counts[key] + i) % 1000003 end
print(#keys, check)
local objects, ids = {}, {}
for i = 1, 500 do local o = {}; objects[o] = i; ids[i] = o end
local back = 0
for _ = 1, 20 do for i = 1, 500 do back = back + objects[ids[i]] end end
print(back)
local sparse = {}
for i = 0, 60 do sparse[1 << i] = i end
for i = 0, 60 do assert(sparse[1 << i] == i) end
local fields = { x = 1, y = 2, z = 3 }
for i = 1, 40000 do
  fields.x = fields.x + fields.y
  fields.y = fields.z - fields.y
  fields.z = (fields.x ~ i) % 1000
  fields.x = fields.x % 5000
end
print(fields.x, fields.y, fields.z)
print(next({}), type(next), pcall(next, {}, "nokey"))
