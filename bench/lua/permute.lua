-- All permutations of an array by recursion and exchanges.
local n = tonumber(arg and arg[1]) or 10
local rounds = 3
local count, checksum, v = 0, 0, nil
local function swap(i, j) v[i], v[j] = v[j], v[i] end
local function permute(m)
  if m == 0 then
    count = count + 1
    checksum = (checksum * 3 + v[1] * v[n]) & 0xffffff
    return
  end
  permute(m - 1)
  for i = m - 1, 1, -1 do
    swap(m, i)
    permute(m - 1)
    swap(m, i)
  end
end
for _ = 1, rounds do
  v = {}
  for i = 1, n do v[i] = i end
  permute(n)
end
print(count, checksum)
