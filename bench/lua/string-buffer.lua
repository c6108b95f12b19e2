-- Text made of small pieces: concatenation, buffers, formats, substitutions.
local rounds = tonumber(arg and arg[1]) or 280
local hash = 0
local function mix(s)
  for i = 1, #s, 17 do hash = (hash * 33 + s:byte(i)) & 0xffffffff end
end
for round = 1, rounds do
  local buffer, n = {}, 0
  for i = 1, 12000 do
    n = n + 1
    buffer[n] = i % 3 == 0 and i or i % 3 == 1 and "word" .. i % 100 or string.format("%04x", i * round)
  end
  local text = table.concat(buffer, " ")
  mix(text)
  local tail = ""
  for i = 1, 2500 do
    tail = tail .. string.char(97 + i % 26)
    if #tail > 120 then tail = tail:sub(60) end
  end
  mix(tail)
  local upper = {}
  for w in text:gmatch("word%d+") do upper[#upper + 1] = w:upper():reverse() end
  mix(table.concat(upper, ","))
  mix((text:gsub("%d+", function(d) return #d > 3 and d:sub(1, 2) or nil end)))
end
print(hash)
