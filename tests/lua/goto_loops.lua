-- Loops made of goto: continue, nested break, a state machine, closures per turn.
local odd = 0
for i = 1, 200000 do
  if i % 2 == 0 then goto continue end
  odd = odd + i
  ::continue::
end
print(odd)
local hits = 0
for i = 1, 300 do
  for j = 1, 300 do
    if i * j > 20000 then goto done end
    if (i + j) % 3 == 0 then goto next_i end
    hits = hits + 1
  end
  ::next_i::
end
::done::
print(hits)
local n, acc = 0, 0
do
  ::top::
  n = n + 1
  acc = acc + n % 5
  if n < 300000 then goto top end
end
print(n, acc)
local function machine(input)
  local i, words, numbers = 1, 0, 0
  local c
  ::start::
  c = input:sub(i, i)
  if c == "" then goto finish end
  i = i + 1
  if c:match("%a") then goto word end
  if c:match("%d") then goto number end
  goto start
  ::word::
  c = input:sub(i, i)
  if c:match("%a") then i = i + 1; goto word end
  words = words + 1
  goto start
  ::number::
  c = input:sub(i, i)
  if c:match("%d") then i = i + 1; goto number end
  numbers = numbers + 1
  goto start
  ::finish::
  return words, numbers
end
print(machine(("abc 12 de4 5f "):rep(300)))
local fs = {}
do
  local k = 1
  ::again::
  local mine = k
  fs[#fs + 1] = function() mine = mine + 1; return mine end
  k = k + 1
  if k <= 500 then goto again end
end
local t = 0
for _ = 1, 20 do for _, f in ipairs(fs) do t = t + f() end end
print(t)
