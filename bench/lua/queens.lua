-- All placements of n queens, by backtracking with three arrays of free lines.
local n = tonumber(arg and arg[1]) or 10
local rounds = 180
local function solve()
  local free_row, free_up, free_down, at = {}, {}, {}, {}
  for i = 1, n do free_row[i] = true end
  for i = 1, 2 * n do free_up[i], free_down[i] = true, true end
  local solutions, checksum = 0, 0
  local function place(column)
    for row = 1, n do
      if free_row[row] and free_up[row + column] and free_down[row - column + n] then
        free_row[row], free_up[row + column], free_down[row - column + n] = false, false, false
        at[column] = row
        if column == n then
          solutions = solutions + 1
          for i = 1, n do checksum = (checksum * 31 + at[i]) % 1000000007 end
        else
          place(column + 1)
        end
        free_row[row], free_up[row + column], free_down[row - column + n] = true, true, true
      end
    end
  end
  place(1)
  return solutions, checksum
end
local solutions, checksum
for _ = 1, rounds do solutions, checksum = solve() end
print(solutions, checksum)
