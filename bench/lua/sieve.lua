-- The sieve of Eratosthenes over an array of booleans.
local rounds = tonumber(arg and arg[1]) or 85
local limit = 700000
local count
for _ = 1, rounds do
  local flags = {}
  for i = 2, limit do flags[i] = true end
  count = 0
  for i = 2, limit do
    if flags[i] then
      count = count + 1
      for k = i * i, limit, i do flags[k] = false end
    end
  end
end
print(count)
