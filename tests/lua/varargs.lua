-- Varargs, select, pack and unpack, adjustment of results, multiple assignment.
local function sum(...)
  local s = 0
  for i = 1, select("#", ...) do s = s + (select(i, ...)) end
  return s
end
local total = 0
for i = 1, 3000 do total = total + sum(i, 2, 3, 4, 5) + sum() + sum(i) end
print(total)
local function sum2(...) local s = 0 for _, v in ipairs { ... } do s = s + v end return s end
for i = 1, 30000 do total = total + sum2(i, i, i) end
print(total)
local function pass(...) return ... end
local function count(...) return select("#", ...) end
print(count(pass()), count(pass(nil)), count(pass(1, nil, nil)), count((pass(1, 2))), count(pass(1, 2), pass(3, 4)))
print((pass(1, 2, 3)), pass(1, 2), ({ pass(1, 2), pass(3, 4) })[3], #{ pass(1, 2, 3), pass(4, 5) })
local a, b, c, d = pass(1, 2), 10
print(a, b, c, d)
local t = table.pack(pass(nil, nil, 3, nil))
print(t.n, #table.pack(), table.unpack(t, 1, t.n))
print(select(-1, 1, 2, 3), select(-2, "a", "b", "c"), pcall(select, 0), pcall(select, -5, 1))
local x, y, z = 1, 2, 3
for i = 1, 30000 do x, y, z = y, z, (x + y * 2 + i) % 1009 end
print(x, y, z)
local arr = { 1, 2, 3 }
local i = 1
i, arr[i] = i + 1, 20
print(i, arr[1], arr[2])
local function grow(n) local r = {} for k = 1, n do r[k] = k end return table.unpack(r) end
print(count(grow(200)), sum(grow(250)), math.max(grow(100)), select("#", grow(0)))
print(pcall(table.unpack, {}, 1, 1e8))
local function defaults(p, q, ...) p = p or "p"; q = q == nil and "q" or q; return p, q, count(...) end
for _ = 1, 1000 do defaults(1); defaults(1, 2, 3) end
print(defaults(), defaults(1), defaults(1, false, 3, 4))
local function recur(n, ...) if n == 0 then return count(...) end return recur(n - 1, n, ...) end
print(recur(200))
local mainargs = count(...)
print(mainargs)
print(string.char(table.unpack { 72, 105 }), math.min(3, 1, 2), (string.byte("abc", 1, 3)))
