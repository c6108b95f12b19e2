-- args: first "second one" 3
-- stdin: 12 7 99\nsecond line\nthird line\n3.5 0x10 -2\nlast
local a, b, c = io.read("n", "n", "n")
print(a, b, c, math.type(a))
print(io.read("L"))
print(io.read())
print(io.read("L"))
print(io.read("n", "n", "n"))
local n = 0
for i = 1, 2000 do n = n + a * b % (i + c) end
print(n)
print(io.read(), io.read("a"), io.read(), io.read("a"))
print(#arg, arg[1], arg[2], arg[3], select("#", ...), ...)
