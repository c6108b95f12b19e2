-- Chunks are compiled, get hot, and are freed; their memory is used again by others.
-- A trace of a dead prototype must never run for a new one at the same address.
local total = 0
for round = 1, 400 do
  local f = assert(load(("local s = 0 for i = 1, 400 do s = s + i * %d %% 7 end return s"):format(round)))
  total = total + f()
  f = nil
  if round % 4 == 0 then collectgarbage() end
end
print(total)
-- The same shape with other constants and other operators, collected each time.
local ops = { "+", "-", "*", "|", "~", "&" }
local results = {}
for round = 1, 400 do
  local op = ops[round % #ops + 1]
  local source = ("local a = %d local n = 0 while n < 300 do n = n + 1 a = (a %s n) & 0xffff end return a"):format(round, op)
  results[#results + 1] = load(source)()
  collectgarbage()
end
local h = 0
for _, v in ipairs(results) do h = (h * 31 + v) % 1000000007 end
print(#results, h)
-- string.dump and load of binary chunks, with and without debug information.
local function work(n) local s = 0 for i = 1, n do s = s + (i % 3 == 0 and i or -1) end return s end
for round = 1, 200 do
  local copy = load(string.dump(work, round % 2 == 0), "copy", "b")
  total = total + copy(300 + round)
  if round % 5 == 0 then collectgarbage() end
end
print(total)
-- A reader function; failures; environments.
local pieces = { "local x = 0 ", "for i = 1, 1000 do ", "x = x + i ", "end return x" }
local at = 0
print(load(function() at = at + 1; return pieces[at] end)())
print(load("x ="))
print(load("return +"))
print(load("goto nowhere"))
print(load(function() error("reader", 0) end))
print(load("\27Lua", "bin", "t"))
print(pcall(load, string.dump(work):sub(1, 60)))
for i = 1, 200 do
  local env = { v = i }
  local f = load("v = v * 2; for k = 1, 50 do v = v + k end; return v", "env", "t", env)
  total = total + f() + env.v
end
print(total)
-- Many nested prototypes, kept, then all dropped.
local fs = {}
for i = 1, 60 do fs[i] = load("local n = ... return function(m) local s = n for j = 1, m do s = s + j end return s end")(i) end
for r = 1, 30 do for i = 1, #fs do total = total + fs[i](20) end end
fs = nil
collectgarbage()
print(total)
