-- Weak keys, weak values, ephemerons, caches that survive collections.
local function size(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end
local keys = setmetatable({}, { __mode = "k" })
local values = setmetatable({}, { __mode = "v" })
local both = setmetatable({}, { __mode = "kv" })
local hold = {}
for i = 1, 2000 do
  local k = {}
  keys[k], values[i], both[k] = i, k, k
  if i % 10 == 0 then hold[#hold + 1] = k end
end
collectgarbage()
print(size(keys), size(values), size(both), #hold)
local s = 0
for _ = 1, 20 do for _, k in ipairs(hold) do s = s + keys[k] end end
print(s)
hold = nil
collectgarbage()
print(size(keys), size(values), size(both))
-- An ephemeron: the value refers to its own key.
local eph = setmetatable({}, { __mode = "k" })
local root = {}
do
  local k = root
  for i = 1, 500 do local nxt = {}; eph[k] = { nxt }; k = nxt end
end
collectgarbage()
print(size(eph))
root = nil
collectgarbage()
print(size(eph))
-- Strings and numbers are values: they are never collected from weak tables.
local sv = setmetatable({}, { __mode = "kv" })
for i = 1, 100 do sv[i] = i; sv["s" .. i] = "v" .. i end
collectgarbage()
print(size(sv))
local hits, misses = 0, 0
local cache = setmetatable({}, { __mode = "k" })
local live = {}
for i = 1, 64 do live[i] = { i } end
for i = 1, 120000 do
  local key = live[i % 64 + 1]
  local c = cache[key]
  if c then hits = hits + c else misses = misses + 1; cache[key] = 1 end
  if i % 5000 == 0 then collectgarbage("step", 100) end
end
print(hits, misses)
