-- Patterns: captures, anchors, frontiers, balances, callbacks that run loops themselves.
local text = ("The year 2024, the month 11; key=value, list=[a,[b,c],d] end. "):rep(60)
local words, numbers = 0, 0
for w in text:gmatch("%a+") do words = words + #w end
for n in text:gmatch("%d+") do numbers = numbers + tonumber(n) end
print(words, numbers)
print(select(2, text:gsub("%s+", " ")), select(2, text:gsub("%f[%w]%w", string.upper)))
local swapped = text:gsub("(%w+)=(%w+)", "%2=%1")
print(swapped:sub(1, 70))
local calls = 0
local out = text:gsub("%d+", function(d)
  local s = 0
  for i = 1, #d do s = s + d:byte(i) - 48 end
  calls = calls + 1
  return calls % 2 == 0 and s or nil
end)
print(calls, out:sub(1, 60))
print((text:gsub("%w+", { The = "A", the = "a", year = false }):sub(1, 50)))
print(("list=[a,[b,c],d]"):match("%b[]"), ("  trim  "):match("^%s*(.-)%s*$") .. "|")
print(("key = value"):match("^(%w+)%s*=%s*(%w+)$"))
print(("abc"):find("b()"), ("hello world"):match("()o()"))
print(("x"):gsub("", "-"), ("abc"):gsub("%w", "%0%0"), ("abc"):gsub("b*", "x"))
print(("a,b,,c"):gsub(",", ";", 2))
print(pcall(string.gsub, "x", "(", ""))
print(pcall(string.gsub, "x", "x", "%2"))
print(pcall(string.rep, "x", 1 << 62))
print(pcall(string.find, "a", "[a"))
print(pcall(string.gsub, "abc", "%w", function() error("in callback", 0) end))
local parts = {}
for k, v in ("a=1;b=22;c=333;"):rep(200):gmatch("(%w+)=(%d+);") do parts[k] = (parts[k] or 0) + v end
print(parts.a, parts.b, parts.c)
local csv = {}
for line in (("1,2,3\n4,5,6\n"):rep(200)):gmatch("[^\n]+") do
  local s = 0
  for f in line:gmatch("[^,]+") do s = s + f end
  csv[#csv + 1] = s
end
print(#csv, csv[1], csv[2])
