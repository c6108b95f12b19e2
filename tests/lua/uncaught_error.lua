-- exit: 1
-- An error that nobody catches, out of a hot loop: message, traceback, status 1.
local function inner(i)
  local t = { value = i }
  if i == 20000 then t = nil end
  return t.value
end
local s = 0
for i = 1, 30000 do
  s = s + inner(i)
  if i % 5000 == 0 then print(i, s) end
end
