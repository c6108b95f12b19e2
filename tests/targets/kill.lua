-- kill.lua N: tables, strings, closures and pcall in one hot loop; prints a checksum.
local n = tonumber(arg[1])
local function class(k)
  local self = { k = k, hits = 0 }
  function self:hit(x) self.hits = (self.hits * 31 + x) % 1000003; return self.hits end
  return self
end
local objects, sum, words = {}, 0, {}
for i = 1, 7 do objects[i] = class(i) end
for i = 1, n do
  local o = objects[i % 7 + 1]
  sum = (sum + o:hit(i)) % 1000000007
  if i % 1000 == 0 then words[#words + 1] = string.format("%x", sum) end
  if i % 50000 == 0 then
    local ok, message = pcall(error, "e" .. i)
    sum = sum + #message + (ok and 1 or 0)
    sum = (sum + #table.concat(words, ",")) % 1000000007
    words = {}
  end
end
print(sum, #words)
os.exit(sum % 50)
