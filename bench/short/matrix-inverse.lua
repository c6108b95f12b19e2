-- Gauss-Jordan elimination of a 170 x 170 matrix.
local n, m = 170, {}
for i = 1, n do
  m[i] = {}
  for j = 1, n do m[i][j] = 1 / (i + j - 1) + (i == j and 1 or 0) end
  for j = 1, n do m[i][n + j] = i == j and 1.0 or 0.0 end
end
for c = 1, n do
  local p = c
  for r = c + 1, n do if math.abs(m[r][c]) > math.abs(m[p][c]) then p = r end end
  m[c], m[p] = m[p], m[c]
  local d = m[c][c]
  for j = 1, 2 * n do m[c][j] = m[c][j] / d end
  for r = 1, n do
    if r ~= c then
      local f = m[r][c]
      for j = c, 2 * n do m[r][j] = m[r][j] - f * m[c][j] end
    end
  end
end
local t = 0
for i = 1, n do t = t + m[i][n + i] end
print(string.format("%.9f", t))
