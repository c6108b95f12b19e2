-- Names of fields are constants of chunks that get hot and are freed; their memory is used again, by other names, by strings that are
-- no constants and by tables. What a trace has made of a name's hash must go with the name.
local total = 0
local kept = {}
for round = 1, 300 do
  local name = ("f%07d"):format(round * 7919 % 1000003)
  local other = ("g%07d"):format(round * 104729 % 1000003)
  local source = ([[
    local t = ...
    local s = 0
    for i = 1, 300 do t.%s = i; s = s + t.%s + (t.%s or 0) end
    return s
  ]]):format(name, name, other)
  local f = assert(load(source))
  total = total + f({ [other] = round }) + f({ [name] = 1, a = 1, b = 2, c = 3, d = 4, e = 5 })
  if round % 10 == 0 then kept[#kept + 1] = name end -- the name outlives the chunk
  f, name, other, source = nil, nil, nil, nil
  if round % 3 == 0 then collectgarbage() end
  local junk = {}
  for i = 1, 20 do junk[i] = i % 2 == 0 and { i, round } or ("j%07d"):format(round * i % 999983) end
  total = total + #junk
end
print(total, #kept, kept[1], kept[#kept])
-- One name in many chunks, of which all but one die.
local function chunk(k) return assert(load(("local t = ... local s = 0 for i = 1, 100 do s = s + t.shared * %d end return s"):format(k))) end
local last = chunk(3)
for k = 1, 200 do
  total = total + chunk(k)({ shared = k }) + last({ shared = k, x = 1, y = 2 })
  if k % 7 == 0 then collectgarbage() end
end
print(total)
-- The same name, in tables of all sizes, that grow, shrink and lose it.
local function read(t) return t.value end
local sum = 0
for size = 0, 64 do
  local t = { value = size }
  for i = 1, size do t["k" .. i] = i end
  for i = 1, 200 do
    sum = sum + (read(t) or -1)
    if i == 100 then t.value = nil elseif i == 150 then t.value = i end
  end
end
print(sum)
-- Collected in steps, and in generations, while chunks come and go.
for _, mode in ipairs({ "incremental", "generational" }) do
  collectgarbage(mode)
  local acc = 0
  for round = 1, 300 do
    local n = mode:sub(1, 1) .. round
    acc = acc + load(("local t = {} for i = 1, 60 do t.%s = (t.%s or 0) + i end return t.%s"):format(n, n, n))()
    if round % 25 == 0 then collectgarbage("step") end
  end
  print(mode, acc)
end
