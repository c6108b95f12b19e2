-- Breadth-first search through a maze.
local w, h = 142, 142
local wall = {}
for y = 0, h - 1 do for x = 0, w - 1 do wall[y * w + x] = (x * 7 + y * 13) % 5 == 0 and (x + y) % 3 ~= 0 end end
wall[0] = false
local distance, queue, head = { [0] = 0 }, { 0 }, 1
while queue[head] do
  local at = queue[head]
  head = head + 1
  local x, y = at % w, at // w
  for _, d in ipairs { { 1, 0 }, { -1, 0 }, { 0, 1 }, { 0, -1 } } do
    local nx, ny = x + d[1], y + d[2]
    local to = ny * w + nx
    if nx >= 0 and ny >= 0 and nx < w and ny < h and not wall[to] and not distance[to] then
      distance[to] = distance[at] + 1
      queue[#queue + 1] = to
    end
  end
end
print(#queue, distance[queue[#queue]])
