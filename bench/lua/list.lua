-- Takeuchi's function with list lengths in place of numbers.
local rounds = tonumber(arg and arg[1]) or 300
local function make(n) if n == 0 then return nil end return { n, make(n - 1) } end
local function shorter(x, y)
  while y do
    if not x then return true end
    x, y = x[2], y[2]
  end
  return false
end
local function tail(x, y, z)
  if shorter(y, x) then
    return tail(tail(x[2], y, z), tail(y[2], z, x), tail(z[2], x, y))
  end
  return z
end
local function length(x) local n = 0 while x do n, x = n + 1, x[2] end return n end
local total = 0
for _ = 1, rounds do total = total + length(tail(make(18), make(12), make(6))) end
print(total)
