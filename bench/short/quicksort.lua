-- A quicksort of 17,500 numbers.
local t, seed = {}, 1
for i = 1, 17500 do seed = seed * 16807 % 2147483647; t[i] = seed end
local function sort(lo, hi)
  while lo < hi do
    local pivot, i, j = t[(lo + hi) // 2], lo, hi
    while i <= j do
      while t[i] < pivot do i = i + 1 end
      while t[j] > pivot do j = j - 1 end
      if i <= j then t[i], t[j] = t[j], t[i]; i, j = i + 1, j - 1 end
    end
    if j - lo < hi - i then sort(lo, j); lo = i else sort(i, hi); hi = j end
  end
end
sort(1, #t)
print(t[1], t[8750], t[17500])
