-- Counting subsequences of a generated DNA sequence in hash tables.
local n = tonumber(arg and arg[1]) or 2000000
local seed = 42
local letters = { "A", "C", "G", "T" }
local parts = {}
for i = 1, n do
  seed = (seed * 3877 + 29573) % 139968
  local r = seed / 139968
  parts[i] = letters[r < 0.303 and 1 or r < 0.501 and 2 or r < 0.698 and 3 or 4]
end
local dna = table.concat(parts)
local function counts(k)
  local t = {}
  for i = 1, #dna - k + 1 do
    local s = dna:sub(i, i + k - 1)
    t[s] = (t[s] or 0) + 1
  end
  return t
end
for k = 1, 2 do
  local t, names = counts(k), {}
  for s in pairs(t) do names[#names + 1] = s end
  table.sort(names, function(a, b) if t[a] ~= t[b] then return t[a] > t[b] end return a < b end)
  for _, s in ipairs(names) do print(s, string.format("%.3f", t[s] * 100 / (#dna - k + 1))) end
end
for _, s in ipairs { "GGT", "GGTA", "GGTATT", "GGTATTTTAATT" } do print(counts(#s)[s] or 0, s) end
