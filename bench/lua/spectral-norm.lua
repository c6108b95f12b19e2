-- The largest singular value of an infinite matrix, cut off at n, by power iteration.
local n = tonumber(arg and arg[1]) or 1100
local function a(i, j)
  local ij = i + j - 1
  return 1.0 / (ij * (ij - 1) * 0.5 + i)
end
local function mul(x, y, transposed)
  for i = 1, n do
    local sum = 0
    for j = 1, n do
      if transposed then sum = sum + x[j] * a(j, i) else sum = sum + x[j] * a(i, j) end
    end
    y[i] = sum
  end
end
local u, v, t = {}, {}, {}
for i = 1, n do u[i] = 1 end
for _ = 1, 10 do
  mul(u, t, false)
  mul(t, v, true)
  mul(v, t, false)
  mul(t, u, true)
end
local vbv, vv = 0, 0
for i = 1, n do vbv, vv = vbv + u[i] * v[i], vv + v[i] * v[i] end
print(string.format("%.9f", math.sqrt(vbv / vv)))
