-- Generators, wrap, producer and consumer, errors, close, hot loops in alternation.
local function gen(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
local s = 0
for v in gen(100000) do s = s + v end
print(s)
local function worker(step)
  return coroutine.create(function()
    local acc = 0
    for i = 1, 400000 do
      acc = acc + i * step
      if i % 50 == 0 then coroutine.yield(acc) end
    end
    return "end"
  end)
end
local ws = { worker(1), worker(2), worker(3), worker(0.5) }
local sum = 0
for _ = 1, 1500 do
  for _, w in ipairs(ws) do
    local ok, v = coroutine.resume(w)
    assert(ok)
    sum = sum + v
  end
end
print(sum)
local function permute(a, n)
  n = n or #a
  if n <= 1 then coroutine.yield(a) else
    for i = 1, n do
      a[n], a[i] = a[i], a[n]
      permute(a, n - 1)
      a[n], a[i] = a[i], a[n]
    end
  end
end
local count, hash = 0, 0
for p in coroutine.wrap(function() permute { 1, 2, 3, 4, 5, 6, 7 } end) do
  count = count + 1
  hash = (hash * 7 + p[1] * p[7]) % 1000003
end
print(count, hash)
local co = coroutine.create(function(a, b)
  local c = coroutine.yield(a + b)
  local d, e = coroutine.yield(c * 2)
  return d + e
end)
print(coroutine.resume(co, 1, 2))
print(coroutine.resume(co, 10))
print(coroutine.resume(co, 3, 4))
print(coroutine.resume(co))
print(coroutine.status(co))
local bad = coroutine.create(function() for i = 1, 1000 do if i == 777 then error("at " .. i) end end end)
print(coroutine.resume(bad))
print(coroutine.status(bad), coroutine.isyieldable(), select(2, coroutine.running()))
local closed = {}
local cl = coroutine.create(function()
  local x <close> = setmetatable({}, { __close = function() closed[#closed + 1] = "closed" end })
  while true do coroutine.yield() end
end)
coroutine.resume(cl)
print(coroutine.close(cl), coroutine.status(cl), closed[1])
-- Yield across pcall, from a metamethod, from an iterator.
local y = coroutine.wrap(function()
  local ok, e = pcall(function()
    for i = 1, 300 do coroutine.yield(i) end
    error("after yields", 0)
  end)
  coroutine.yield(e)
  local mt = setmetatable({}, { __index = function(_, k) return coroutine.yield(k) end })
  local t = 0
  for i = 1, 300 do t = t + mt[i] end
  return t
end)
local got = 0
for _ = 1, 300 do got = got + y() end
print(got, y())
local k = y()
local final
for i = 1, 300 do final = y(k * 2); k = final end
print(final)
print(pcall(coroutine.wrap(function() coroutine.wrap(function() error("nested", 0) end)() end)))
print(coroutine.resume(coroutine.running()))
