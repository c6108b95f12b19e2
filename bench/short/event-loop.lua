-- Timers in a binary heap.
local heap, n = {}, 0
local function push(time, f)
  n = n + 1
  local i = n
  heap[i] = { time = time, f = f }
  while i > 1 and heap[i // 2].time > heap[i].time do heap[i // 2], heap[i] = heap[i], heap[i // 2]; i = i // 2 end
end
local function pop()
  local top = heap[1]
  heap[1], heap[n] = heap[n], nil
  n = n - 1
  local i = 1
  while 2 * i <= n do
    local c = 2 * i
    if c < n and heap[c + 1].time < heap[c].time then c = c + 1 end
    if heap[i].time <= heap[c].time then break end
    heap[i], heap[c] = heap[c], heap[i]
    i = c
  end
  return top
end
local now, fired = 0, 0
for i = 1, 300 do
  local function tick() fired = fired + 1; if fired < 52000 then push(now + i % 17 + i / 1000, tick) end end
  push(i / 1000, tick)
end
while n > 0 do local e = pop(); now = e.time; e.f() end
print(fired, string.format("%.3f", now))
