-- Loops whose branches go the same way for long, and then another; others alternate, or follow a pattern, or a random number.
local function run(n, way)
  local sum, other, text = 0, 0.5, 0
  for i = 1, n do
    local which = way(i)
    if which == 0 then
      sum = sum + i
    elseif which == 1 then
      other = other * 0.5 + i
    elseif which == 2 then
      sum = sum ~ i
      text = text + #tostring(i % 7)
    else
      other = other - sum % 3
    end
  end
  return sum, string.format("%.6f", other), text
end

local seed = 12345
local function random()
  seed = (seed * 1103515245 + 12345) % 2147483648
  return seed
end

local ways = {
  phases = function(i) return i // 20000 % 4 end,
  long = function(i) return i < 20000 and 0 or i < 40000 and 1 or 2 end,
  alternates = function(i) return i % 2 end,
  pattern = function(i) return i % 7 == 0 and 1 or i % 5 == 0 and 2 or 0 end,
  random = function() return random() >> 16 & 3 end,
  rarely = function(i) return i % 500 == 0 and 3 or 0 end,
}
for _, name in ipairs { "phases", "long", "alternates", "pattern", "random", "rarely" } do
  print(name, run(200000, ways[name]))
end

-- The branch is on the type of a value, and on a flag of a function that is called.
local function mixed(values, times, flag)
  local sum = 0
  for _ = 1, times do
    for i = 1, #values do
      local v = values[i]
      if flag then sum = sum + v else sum = sum - v * 2 end
    end
  end
  return sum
end
local ints, floats, both = {}, {}, {}
for i = 1, 1000 do
  ints[i], floats[i] = i, i + 0.25
  both[i] = i % 3 == 0 and i or i + 0.5
end
for round = 1, 4 do
  print(round, mixed(ints, 100, round % 2 == 0), mixed(floats, 100, round % 2 == 1), mixed(both, 100, round > 2))
end

-- The same loop for one matrix as it is, and for the other transposed.
local function element(i, j) return (i * 7 + j * 3) % 11 end
local function product(n, transposed)
  local all = 0
  for i = 1, n do
    local sum = 0
    for j = 1, n do
      if transposed then sum = sum + j * element(j, i) else sum = sum + j * element(i, j) end
    end
    all = (all * 31 + sum) % 1000003
  end
  return all
end
for round = 1, 6 do
  print(product(150, round % 2 == 0), product(150, round % 2 == 1))
end
