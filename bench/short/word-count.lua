-- Words of a text, by frequency.
local text = ("It was the best of times, it was the worst of times, it was the age of wisdom; "):rep(5000)
local counts, order = {}, {}
for word in text:lower():gmatch("%a+") do
  if not counts[word] then counts[word] = 0; order[#order + 1] = word end
  counts[word] = counts[word] + 1
end
table.sort(order, function(a, b) return counts[a] > counts[b] or counts[a] == counts[b] and a < b end)
for i = 1, 5 do print(order[i], counts[order[i]]) end
