-- Trees are built and walked, with and without a collection between.
local function bottom_up(d)
  if d == 0 then return {} end
  return { bottom_up(d - 1), bottom_up(d - 1) }
end
local function check(t) if t[1] then return 1 + check(t[1]) + check(t[2]) end return 1 end
for d = 2, 10, 2 do
  local n = 1 << (10 - d + 2)
  local s = 0
  for _ = 1, n // 2 + 1 do s = s + check(bottom_up(d)) end
  print(d, n, s)
end
local root
local function insert(t, k)
  if not t then return { k = k } end
  if k < t.k then t.l = insert(t.l, k) elseif k > t.k then t.r = insert(t.r, k) end
  return t
end
local x = 12345
for _ = 1, 3000 do x = (x * 1103515245 + 12345) & 0x7fffffff; root = insert(root, x % 10000) end
local function walk(t, f) while t do walk(t.l, f); f(t.k); t = t.r end end
local n, last, ordered = 0, -1, true
walk(root, function(k) n = n + 1; ordered = ordered and k > last; last = k end)
print(n, ordered, last)
local function height(t) return t and 1 + math.max(height(t.l), height(t.r)) or 0 end
print(height(root))
