-- table.sort with comparators (calls back into Lua), own sorts, errors from inside.
local seed = 7
local function rnd(n) seed = (seed * 1103515245 + 12345) & 0x7fffffff; return seed % n + 1 end
local function filled(n, m) local t = {} for i = 1, n do t[i] = rnd(m) end return t end
local function sum(t) local h = 0 for i = 1, #t do h = (h * 31 + t[i]) % 998244353 end return h end
local a = filled(4000, 100000)
table.sort(a)
print(sum(a), a[1], a[4000])
table.sort(a, function(x, y) return x > y end)
print(sum(a), a[1], a[4000])
local records = {}
for i = 1, 1500 do records[i] = { key = rnd(50), id = i } end
table.sort(records, function(x, y)
  if x.key ~= y.key then return x.key < y.key end
  return x.id < y.id
end)
local h = 0
for _, r in ipairs(records) do h = (h * 31 + r.id) % 998244353 end
print(h)
local words = {}
for i = 1, 800 do words[i] = string.char(96 + rnd(26), 96 + rnd(26), 96 + rnd(26)) end
table.sort(words)
print(words[1], words[400], words[800])
local function insertion(t)
  for i = 2, #t do
    local v, j = t[i], i - 1
    while j > 0 and t[j] > v do t[j + 1] = t[j]; j = j - 1 end
    t[j + 1] = v
  end
end
local function heap(t)
  local n = #t
  local function down(i, m)
    while 2 * i <= m do
      local c = 2 * i
      if c < m and t[c + 1] > t[c] then c = c + 1 end
      if t[i] >= t[c] then return end
      t[i], t[c] = t[c], t[i]
      i = c
    end
  end
  for i = n // 2, 1, -1 do down(i, n) end
  for m = n, 2, -1 do t[1], t[m] = t[m], t[1]; down(1, m - 1) end
end
local b, c = filled(400, 1000), filled(3000, 1000000)
insertion(b)
heap(c)
print(sum(b), sum(c))
print(pcall(table.sort, { 3, 1, "x" }))
print(select(2, pcall(table.sort, { 3, 1, 2 }, function() error({ code = 5 }) end)).code)
local calls = 0
print(select(2, pcall(table.sort, filled(100, 100), function(x, y)
  calls = calls + 1
  if calls == 50 then error("enough", 0) end
  return x < y
end)), calls)
