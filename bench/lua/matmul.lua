-- The product of two square matrices, as arrays of rows.
local n = tonumber(arg and arg[1]) or 510
local function matrix(f)
  local m = {}
  for i = 1, n do
    local row = {}
    for j = 1, n do row[j] = f(i, j) end
    m[i] = row
  end
  return m
end
local a = matrix(function(i, j) return (i - j) * (i + j - 2) / (n * n) end)
local b = matrix(function(i, j) return (i * 3 + j * 5) % 17 - 8.0 end)
local function transposed(m)
  return matrix(function(i, j) return m[j][i] end)
end
local bt = transposed(b)
local c = {}
for i = 1, n do
  local ai, row = a[i], {}
  for j = 1, n do
    local bj, sum = bt[j], 0.0
    for k = 1, n do sum = sum + ai[k] * bj[k] end
    row[j] = sum
  end
  c[i] = row
end
local trace = 0
for i = 1, n do trace = trace + c[i][i] end
print(string.format("%.9f %.9f", trace, c[n // 2][n // 3]))
