-- Every function of the string library in a loop.
local acc = {}
for i = 1, 3000 do
  local s = ("item-%05d"):format(i)
  acc[#acc + 1] = s:sub(-5) .. s:upper():sub(1, 4) .. s:reverse():sub(1, 2) .. #s
end
print(#acc, acc[1], acc[1500], acc[3000])
local bytes = 0
for i = 1, #acc do
  local s = acc[i]
  for j = 1, #s do bytes = (bytes * 31 + s:byte(j)) & 0xffffff end
end
print(bytes)
local rot = {}
for c in ("The quick brown fox jumps over the lazy dog"):gmatch(".") do
  local b = c:byte()
  if b >= 97 and b <= 122 then b = (b - 97 + 13) % 26 + 97 end
  rot[#rot + 1] = string.char(b)
end
print(table.concat(rot))
print(("x"):rep(3, ","), ("ab"):rep(0), (""):rep(100), ("abc"):rep(-1))
print(("hello"):byte(1, -1))
print(("hello"):find("l"), ("hello"):find("xyz"), ("hello"):find(""), ("hello"):find("", 10), ("a.b"):find(".", 1, true))
print(("abc"):sub(2, 10), ("abc"):sub(-100, 2), ("abc"):sub(3, 2), ("abc"):sub(0))
print(("a" < "b"), ("a" < "A"), ("" < "a"), ("a\0b" < "a\0c"), ("Z" <= "Z"))
local concat = ""
for i = 1, 800 do concat = concat .. i % 10 end
print(#concat, concat:sub(1, 20))
local coerced = 0
for i = 1, 5000 do coerced = coerced + #(i .. "") + ("0x10" + i) % 3 end
print(coerced)
print(10 .. 20, 1.5 .. "", -0.0 .. "", 2 ^ 53 .. "", 1e100 .. "")
print(pcall(function() return "a" .. {} end))
print(pcall(function() return "a" + 1 end))
print(#"\u{7FFFFFFF}", "\x41\65\z
       B", '\'', "tab\tend")
print(tostring(12):len(), ("%d"):rep(3):format(1, 2, 3))
