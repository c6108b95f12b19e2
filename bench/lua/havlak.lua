-- Finding the loops of a control-flow graph (Havlak's algorithm with union-find).
local rounds = tonumber(arg and arg[1]) or 220
local function new_graph() return { blocks = {}, n = 0 } end
local function block(g, id)
  local b = g.blocks[id]
  if not b then
    b = { id = id, into = {}, out = {} }
    g.blocks[id] = b
    g.n = g.n + 1
  end
  return b
end
local function edge(g, from, to)
  local a, b = block(g, from), block(g, to)
  a.out[#a.out + 1] = b
  b.into[#b.into + 1] = a
end
local function straight(g, start, n)
  for i = 0, n - 1 do edge(g, start + i, start + i + 1) end
  return start + n
end
local function diamond(g, start)
  edge(g, start, start + 1)
  edge(g, start, start + 2)
  edge(g, start + 1, start + 3)
  edge(g, start + 2, start + 3)
  return start + 3
end
local function base_loop(g, from)
  local header = straight(g, from, 1)
  local d1 = diamond(g, header)
  local d2 = diamond(g, straight(g, d1, 1))
  local footer = straight(g, d2, 1)
  edge(g, d2, straight(g, d1, 1))
  edge(g, footer, header)
  return straight(g, footer, 1)
end
local function find(node)
  local root = node
  while root.parent ~= root do root = root.parent end
  while node ~= root do
    local up = node.parent
    node.parent = root
    node = up
  end
  return root
end
local function loops_of(g, start)
  local nodes, number, last = {}, {}, {}
  -- Depth-first numbering, with the last descendant of each node.
  local function visit(b)
    local n = #nodes + 1
    nodes[n] = { block = b, back = {}, other = {}, kind = "plain", loop = nil }
    nodes[n].parent = nodes[n]
    number[b] = n
    for _, t in ipairs(b.out) do if not number[t] then visit(t) end end
    last[n] = #nodes
  end
  visit(start)
  local function ancestor(w, v) return w <= v and v <= last[w] end
  for w, node in ipairs(nodes) do
    for _, from in ipairs(node.block.into) do
      local v = number[from]
      if v then
        if ancestor(w, v) then node.back[#node.back + 1] = v else node.other[v] = true end
      end
    end
  end
  local loops = {}
  for w = #nodes, 1, -1 do
    local node = nodes[w]
    local body, inside = {}, {}
    for _, v in ipairs(node.back) do
      if v == w then node.kind = "self" else
        local r = find(nodes[v])
        if not inside[r] then inside[r] = true; body[#body + 1] = r end
      end
    end
    if #body > 0 then node.kind = "reducible" end
    local at = 1
    while at <= #body do
      local x = body[at]
      at = at + 1
      for v in pairs(x.other) do
        local y = find(nodes[v])
        if not ancestor(w, number[y.block]) then
          node.kind = "irreducible"
          node.other[number[y.block]] = true
        elseif y ~= node and not inside[y] then
          inside[y] = true
          body[#body + 1] = y
        end
      end
    end
    if #body > 0 or node.kind == "self" then
      local loop = { header = node, size = 1, kind = node.kind, depth = 0, up = nil }
      node.loop = loop
      for _, x in ipairs(body) do
        x.parent = node
        if x.loop then x.loop.up = loop else loop.size = loop.size + 1 end
      end
      loops[#loops + 1] = loop
    end
  end
  local deepest, sizes = 0, 0
  for _, l in ipairs(loops) do
    local depth, up = 1, l.up
    while up do depth, up = depth + 1, up.up end
    if depth > deepest then deepest = depth end
    sizes = sizes + l.size * depth
  end
  return #loops, deepest, sizes
end
local g = new_graph()
block(g, 0)
base_loop(g, 0)
local n = 2
edge(g, 0, 2)
for _ = 1, 6 do
  edge(g, 2, n + 1)
  n = n + 1
  for _ = 1, 12 do
    local top = n
    n = straight(g, n, 1)
    for _ = 1, 5 do n = base_loop(g, n) end
    local bottom = straight(g, n, 1)
    edge(g, n, top)
    n = bottom
  end
  edge(g, n, 1)
end
local count, deepest, sizes
for _ = 1, rounds do count, deepest, sizes = loops_of(g, g.blocks[0]) end
print(g.n, count, deepest, sizes)
