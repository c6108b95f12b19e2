-- An operating system kernel in small: tasks, packets and queues, dispatched by state.
local rounds = tonumber(arg and arg[1]) or 160
local IDLE, WORKER, HANDLER_A, HANDLER_B, DEVICE_A, DEVICE_B = 1, 2, 3, 4, 5, 6
local DEVICE_KIND, WORK_KIND = 0, 1
local Task = {}
Task.__index = Task
local function append(packet, queue)
  packet.link = nil
  if not queue then return packet end
  local last = queue
  while last.link do last = last.link end
  last.link = packet
  return queue
end
local function packet(link, id, kind) return { link = link, id = id, kind = kind, datum = 0, data = { 0, 0, 0, 0 } } end
local function run_once(turns)
  local tasks, list = {}, nil
  local current, current_id, queued, held = nil, 0, 0, 0
  local function add(id, priority, queue, state, run)
    local t = setmetatable({ link = list, id = id, priority = priority, queue = queue, run = run }, Task)
    t.pending, t.waiting, t.holding = queue ~= nil, state.waiting or false, state.holding or false
    list, tasks[id] = t, t
    return t
  end
  local function wait() current.waiting = true; return current end
  local function hold() held = held + 1; current.holding = true; return current.link end
  local function release(id)
    local t = tasks[id]
    t.holding = false
    if t.priority > current.priority then return t end
    return current
  end
  local function queue(p)
    local t = tasks[p.id]
    queued = queued + 1
    p.id, p.link = current_id, nil
    if t.queue then append(p, t.queue) else
      t.queue, t.pending = p, true
      if t.priority > current.priority then return t end
    end
    return current
  end
  local control, left = 1, turns
  add(IDLE, 0, nil, {}, function()
    left = left - 1
    if left == 0 then return hold() end
    if control & 1 == 0 then control = control >> 1; return release(DEVICE_A) end
    control = control >> 1 ~ 0xD008
    return release(DEVICE_B)
  end)
  local destination, letter = HANDLER_A, 0
  add(WORKER, 1000, packet(packet(nil, WORKER, WORK_KIND), WORKER, WORK_KIND), { waiting = true }, function(p)
    if not p then return wait() end
    destination = destination == HANDLER_A and HANDLER_B or HANDLER_A
    p.id, p.datum = destination, 0
    for i = 1, 4 do
      letter = letter % 26 + 1
      p.data[i] = 64 + letter
    end
    return queue(p)
  end)
  local function handler()
    local work, device
    return function(p)
      if p then if p.kind == WORK_KIND then work = append(p, work) else device = append(p, device) end end
      if work then
        local count = work.datum
        if count >= 4 then
          local done = work
          work = work.link
          return queue(done)
        end
        if device then
          local d = device
          device = device.link
          d.datum = work.data[count + 1]
          work.datum = count + 1
          return queue(d)
        end
      end
      return wait()
    end
  end
  local function device()
    local pending
    return function(p)
      if p then pending = p; return hold() end
      if not pending then return wait() end
      local q = pending
      pending = nil
      return queue(q)
    end
  end
  local function three(id) return packet(packet(packet(nil, id, DEVICE_KIND), id, DEVICE_KIND), id, DEVICE_KIND) end
  add(HANDLER_A, 2000, three(DEVICE_A), { waiting = true }, handler())
  add(HANDLER_B, 3000, three(DEVICE_B), { waiting = true }, handler())
  add(DEVICE_A, 4000, nil, { waiting = true }, device())
  add(DEVICE_B, 5000, nil, { waiting = true }, device())
  current = list
  while current do
    if current.holding or (not current.pending and current.waiting) then
      current = current.link
    else
      local p
      if current.waiting and current.pending then
        p = current.queue
        current.queue = p.link
        current.waiting, current.pending = false, current.queue ~= nil
      end
      current_id = current.id
      current = current.run(p)
    end
  end
  return queued, held
end
local q, h
for _ = 1, rounds do q, h = run_once(10000) end
print(q, h)
