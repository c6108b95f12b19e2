-- Base 64, there and back.
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local value = {}
for i = 1, 64 do value[alphabet:byte(i)] = i - 1 end
local function encode(s)
  local out = {}
  for i = 1, #s, 3 do
    local a, b, c = s:byte(i, i + 2)
    local v = a << 16 | (b or 0) << 8 | (c or 0)
    for k = 0, 3 do
      local at = (v >> (18 - 6 * k) & 63) + 1
      out[#out + 1] = (k == 2 and not b or k == 3 and not c) and "=" or alphabet:sub(at, at)
    end
  end
  return table.concat(out)
end
local function decode(s)
  local out = {}
  for i = 1, #s, 4 do
    local v, n = 0, 0
    for k = 0, 3 do
      local d = value[s:byte(i + k)]
      if d then n = n + 1 end
      v = v << 6 | (d or 0)
    end
    for k = 1, n - 1 do out[#out + 1] = string.char(v >> (24 - 8 * k) & 255) end
  end
  return table.concat(out)
end
local text = ("All the world's a stage, "):rep(2500)
local coded = encode(text)
assert(decode(coded) == text)
print(#coded, coded:sub(1, 32))
