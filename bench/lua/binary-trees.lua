-- Perfect binary trees, made and counted: allocation, recursion and the collector.
local depth = tonumber(arg and arg[1]) or 16
local function make(d)
  if d == 0 then return { false, false } end
  return { make(d - 1), make(d - 1) }
end
local function check(t)
  if not t[1] then return 1 end
  return 1 + check(t[1]) + check(t[2])
end
print("stretch tree of depth " .. depth + 1, "check: " .. check(make(depth + 1)))
local long = make(depth)
for d = 4, depth, 4 do
  local turns = 1 << (depth - d + 4)
  local total = 0
  for _ = 1, turns do total = total + check(make(d)) end
  print(turns .. " trees of depth " .. d, "check: " .. total)
end
print("long lived tree of depth " .. depth, "check: " .. check(long))
