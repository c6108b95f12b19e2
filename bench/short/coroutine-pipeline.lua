-- A producer, a filter and a consumer.
local function producer(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
local function filter(f, source) return coroutine.wrap(function() for v in source do if f(v) then coroutine.yield(v * v) end end end) end
local sum = 0
for v in filter(function(v) return v % 3 == 0 end, producer(300000)) do sum = sum + v end
print(sum)
