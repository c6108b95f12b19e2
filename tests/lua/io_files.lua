-- Files: write, read in every format, seek, lines, append, errors; removed at the end.
local name = os.tmpname()
local f = assert(io.open(name, "w"))
for i = 1, 3000 do f:write(i, " ", i * 0.5, " line\n") end
f:close()
local n, s = 0, 0
for l in io.lines(name) do
  n = n + 1
  s = s + tonumber(l:match("^%d+"))
end
print(n, s)
f = io.open(name)
local sum = 0
for _ = 1, 3000 do
  local a, b = f:read("n", "n")
  sum = sum + a - b
  f:read("l")
end
print(sum, f:read("n"), f:read("l"), f:read("a"), f:read(0))
print(f:seek("set", 0), f:read(5), f:seek("cur"), f:seek("end"))
f:seek("set")
local chars = 0
while true do
  local block = f:read(97)
  if not block then break end
  chars = chars + #block
end
print(chars)
f:close()
print(pcall(f.read, f))
print(tostring(f), io.type(f), io.type(io.stdout), io.type(1))
f = io.open(name, "a+")
f:write("tail\n")
f:seek("end", -5)
print(f:read("L"))
f:setvbuf("full", 512)
f:close()
for a, b in io.lines(name, 1, "l") do n = n + #a + #b end
print(n)
print(select("#", io.open("/nonexistent/file")), (select(2, io.open("/nonexistent/file"))))
print(pcall(io.lines, "/nonexistent/file"))
print(os.remove(name), (select(1, os.remove(name))))
print(os.rename("/nonexistent/a", "/nonexistent/b") == nil, os.getenv("NO_SUCH_VARIABLE_HERE"))
local p = io.popen("printf 'one\\ntwo\\n'")
for l in p:lines() do io.write("[", l, "]") end
print(p:close())
print(io.popen("exit 3"):close())
print(os.execute("exit 5"))
