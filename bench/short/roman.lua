-- Roman numerals, there and back.
local values = { { 1000, "M" }, { 900, "CM" }, { 500, "D" }, { 400, "CD" }, { 100, "C" }, { 90, "XC" }, { 50, "L" }, { 40, "XL" }, { 10, "X" }, { 9, "IX" }, { 5, "V" }, { 4, "IV" }, { 1, "I" } }
local digit = { M = 1000, D = 500, C = 100, L = 50, X = 10, V = 5, I = 1 }
local function write(n)
  local s = ""
  for _, v in ipairs(values) do while n >= v[1] do s, n = s .. v[2], n - v[1] end end
  return s
end
local function read(s)
  local n, last = 0, 0
  for i = #s, 1, -1 do
    local d = digit[s:sub(i, i)]
    if d < last then n = n - d else n, last = n + d, d end
  end
  return n
end
local length = 0
for i = 1, 3999 do
  local s = write(i)
  assert(read(s) == i)
  length = length + #s
end
print(length, write(1999))
