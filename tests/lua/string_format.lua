-- string.format with every conversion, in and out of loops.
print(string.format("%d %5d %-5d| %05d %+d %x %X %#x %o %c", 42, 42, 42, 42, 42, 255, 255, 255, 8, 65))
print(string.format("%e %.3e %f %.2f %g %g %g %10.4f|%-10.2f|", 1.5, 12345.678, 1 / 3, 2 / 3, 1e20, 1e-5, 100, math.pi, math.pi))
print(string.format("%s %10s|%-10s|%.2s %q %q %q", "x", "right", "left", "truncate", 'quote "me"\n', 1 / 3, math.mininteger))
print(string.format("%a %%", 1.0), string.format("%i", 3.0), string.format("%5.1s|", "abc"))
print(pcall(string.format, "%d", 1.5))
print(pcall(string.format, "%d", "x"))
print(pcall(string.format, "%y", 1))
print(pcall(string.format, "%d"))
print(string.format("%s %s %s", nil, true, setmetatable({}, { __tostring = function() return "custom" end })))
local lines = {}
for i = 1, 4000 do
  lines[#lines + 1] = string.format("%4d %8.3f %-6s %04x", i, math.sqrt(i), "r" .. i % 7, i * 31 & 0xffff)
end
local sum = 0
for _, l in ipairs(lines) do for j = 1, #l, 3 do sum = (sum * 33 + l:byte(j)) & 0xffffffff end end
print(sum, lines[1], lines[4000])
for _, v in ipairs { 0.1, 1 / 3, 1e15, 1e16, 123456789012345678, 2 ^ 63, -1e-300, math.huge, -math.huge } do
  io.write(tostring(v), " ", string.format("%.14g", v), "\n")
end
for _, s in ipairs { "10", " 10 ", "0x1p4", "1e1", "1e", "0x", "", "10a", "inf", "nan", "1_000", "٣" } do
  io.write(tostring(tonumber(s)), " ")
end
print()
print(tonumber("zz", 36), tonumber("102", 2), tonumber("-ff", 16), tonumber("7", 8), math.tointeger("8"))
