-- Noughts and crosses, played out by minimax from each opening.
local lines = { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 }, { 1, 4, 7 }, { 2, 5, 8 }, { 3, 6, 9 }, { 1, 5, 9 }, { 3, 5, 7 } }
local board, seen = { 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 0
local function won(p)
  for i = 1, 8 do
    local l = lines[i]
    if board[l[1]] == p and board[l[2]] == p and board[l[3]] == p then return true end
  end
  return false
end
local function best(p, depth)
  seen = seen + 1
  if won(-p) then return -1 end
  if depth == 0 then return 0 end
  local top = -2
  for i = 1, 9 do
    if board[i] == 0 then
      board[i] = p
      local v = -best(-p, depth - 1)
      board[i] = 0
      if v > top then top = v end
    end
  end
  return top
end
for i = 1, 5 do
  board[i] = 1
  print(best(-1, 8), seen)
  board[i] = 0
end
