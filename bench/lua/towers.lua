-- The towers of Hanoi with discs in linked lists.
local discs = tonumber(arg and arg[1]) or 24
local piles = { false, false, false }
local moves = 0
local function push(disc, pile)
  local top = piles[pile]
  if top and disc.size >= top.size then error("a larger disc on a smaller one") end
  disc.below = top
  piles[pile] = disc
end
local function pop(pile)
  local top = piles[pile] or error("no disc there")
  piles[pile] = top.below
  top.below = false
  return top
end
local function move(n, from, to)
  if n == 1 then
    push(pop(from), to)
    moves = moves + 1
    return
  end
  local other = 6 - from - to
  move(n - 1, from, other)
  move(1, from, to)
  move(n - 1, other, to)
end
for size = discs, 1, -1 do push({ size = size, below = false }, 1) end
move(discs, 1, 3)
local height, d = 0, piles[3]
while d do height, d = height + 1, d.below end
print(moves, height)
