-- Building text: concatenation, table.concat, gsub templates, long strings as keys.
local parts = {}
for i = 1, 8000 do parts[#parts + 1] = i % 3 == 0 and i or i % 3 == 1 and "s" .. i or i / 4 end
local joined = table.concat(parts, ",")
print(#joined, joined:sub(1, 40), joined:sub(-30))
local s = ""
for i = 1, 1500 do s = s .. string.char(97 + i % 26) if #s > 400 then s = s:sub(200) end end
print(#s, s:sub(-20))
local function template(str, vars) return (str:gsub("%${(%w+)}", vars)) end
local out = 0
for i = 1, 1500 do out = out + #template("Hello ${name}, you are ${age} and ${unknown}", { name = "N" .. i, age = i }) end
print(out)
local keys, longs = {}, {}
for i = 1, 500 do
  local k = ("long string key that is not interned because it has more than forty characters %d"):format(i % 50)
  keys[k] = (keys[k] or 0) + i
  longs[k] = true
end
local n, t = 0, 0
for k in pairs(longs) do n = n + 1; t = t + keys[k] end
print(n, t)
local hash = 5381
for i = 1, #joined do hash = (hash * 33 ~ joined:byte(i)) & 0xffffffff end
print(hash)
local rev = {}
for w in ("the quick brown fox jumps over the lazy dog "):rep(50):gmatch("%S+") do table.insert(rev, 1, w) end
print(#rev, rev[1], rev[450])
local eq = 0
for i = 1, 5000 do
  local a, b = ("k"):rep(45) .. i % 10, ("k"):rep(45) .. i % 7
  if a == b then eq = eq + 1 end
  if a < b then eq = eq + 2 end
end
print(eq)
