-- string.pack and unpack with every format, alignment, and errors.
local n = 0
for i = 1, 3000 do
  local s = string.pack("<i4 I2 b d s1 z", i, i & 0xffff, i % 128, i / 3, "s" .. i % 10, "zero")
  local a, b, c, d, e, f, at = string.unpack("<i4 I2 b d s1 z", s)
  assert(a == i and b == i & 0xffff and c == i % 128 and d == i / 3 and e == "s" .. i % 10 and f == "zero" and at == #s + 1)
  n = n + #s
end
print(n)
local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
for _, f in ipairs { "<i1", ">i2", "<i3", ">i4", "<i7", ">i8", "<i16", "<j", ">n", "<f", "!4 b i4", "!8 b d", "z", "s2" } do
  local v = (f:find("[zs]")) and "text" or (f:find("[nfd]")) and 1.5 or -2
  print(f, hex(f:find("^!") and string.pack(f, 1, v) or string.pack(f, v)))
end
print(string.packsize("<i4 i8 b"), string.packsize("!8 b i8"), string.packsize("c10 x"))
print(pcall(string.pack, "i1", 200))
print(pcall(string.pack, "i17", 1))
print(pcall(string.unpack, "i4", "abc"))
print(pcall(string.unpack, "z", "abc"))
print(string.unpack("<I2 >I2 =I1", "\1\2\1\2\3"))
local words = string.pack(("<I4"):rep(100), (function() local t = {} for i = 1, 100 do t[i] = i * i end return table.unpack(t) end)())
local s, at = 0, 1
for _ = 1, 20 do
  at = 1
  while at <= #words do
    local v
    v, at = string.unpack("<I4", words, at)
    s = s + v
  end
end
print(s)
