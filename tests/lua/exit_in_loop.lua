-- exit: 7
-- The process ends from inside a hot loop; output that is buffered must appear.
local s = 0
for i = 1, 100000 do
  s = s + i
  if i % 10000 == 0 then io.write(i, " ", s, "\n") end
  if i == 55555 then os.exit(7) end
end
print("not reached")
