-- Arrays: growth, insert and remove, unpack, move, concat, borders.
local t = {}
for i = 1, 20000 do t[i] = i * 2 end
local s = 0
for i = #t, 1, -1 do s = s + t[i] end
print(#t, s)
for i = 1, 300 do table.insert(t, 1, -i) end
for i = 1, 300 do table.insert(t, i * 2, i) end
for _ = 1, 200 do table.remove(t, 5) end
while #t > 10000 do table.remove(t) end
print(#t, t[1], t[50], t[400], t[10000])
print(table.remove({}), table.remove({ 1 }), #table.pack(), table.pack(nil, nil).n)
print(pcall(table.insert, { 1 }, 5, 1))
print(pcall(table.insert, { 1 }, 1, 2, 3))
local moved = table.move(t, 1, 1000, 500)
print(moved[499], moved[500], moved[1499])
print(table.concat({ 1, 2.5, "x" }, "-"), table.concat({}, ","), table.concat({ 1, 2, 3 }, ",", 2, 3))
print(pcall(table.concat, { 1, {}, 3 }))
print(table.unpack({ 1, 2, 3 }, 2), (table.unpack({ 1, 2, 3 })), select("#", table.unpack({}, 1, 5)))
local matrix = {}
for i = 1, 60 do
  matrix[i] = {}
  for j = 1, 60 do matrix[i][j] = i * j % 11 end
end
local trace = 0
for _ = 1, 20 do
  for i = 1, 60 do
    local row = matrix[i]
    for j = 1, 60 do trace = trace + row[j] - matrix[j][i] + (i == j and 1 or 0) end
  end
end
print(trace)
local queue, head, tail = {}, 1, 0
for i = 1, 20000 do
  tail = tail + 1
  queue[tail] = i
  if i % 3 == 0 then queue[head] = nil; head = head + 1 end
end
print(tail - head + 1, queue[head], queue[tail])
local holes = { 1, 2, nil, 4, nil, n = 5 }
local c = 0
for i = 1, holes.n do if holes[i] then c = c + 1 end end
print(c)
