-- A list that is built, reversed, filtered and folded.
local list
for i = 1, 23000 do list = { value = i, next = list } end
for _ = 1, 3 do
  local back
  while list do list, list.next, back = list.next, back, list end
  list = back
end
local kept, node = 0, list
while node do
  while node.next and node.next.value % 3 == 0 do node.next = node.next.next end
  kept = kept + node.value
  node = node.next
end
print(kept, list.value)
