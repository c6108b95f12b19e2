-- Edit distances between words.
local function distance(a, b)
  local prev = {}
  for j = 0, #b do prev[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(prev[j] + 1, row[j - 1] + 1, prev[j - 1] + cost)
    end
    prev = row
  end
  return prev[#b]
end
local words = { "kitten", "sitting", "saturday", "sunday", "interpreter", "compilation", "recording", "annotation" }
local total = 0
for _ = 1, 14 do for _, a in ipairs(words) do for _, b in ipairs(words) do total = total + distance(a, b) end end end
print(total)
