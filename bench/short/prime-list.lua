-- Primes by trial division.
local primes = { 2 }
for n = 3, 560000, 2 do
  local i, prime = 1, true
  while primes[i] * primes[i] <= n do
    if n % primes[i] == 0 then prime = false; break end
    i = i + 1
  end
  if prime then primes[#primes + 1] = n end
end
print(#primes, primes[#primes])
