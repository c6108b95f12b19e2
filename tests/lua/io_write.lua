-- Much output in small pieces, buffered and not.
for i = 1, 6000 do
  io.write(i, i % 10 == 0 and "\n" or " ")
end
io.stdout:setvbuf("no")
for i = 1, 300 do io.write(".", i % 50 == 0 and "\n" or "") end
io.stdout:setvbuf("line")
for i = 1, 300 do io.stdout:write(("%d,%s;"):format(i, i / 8)) if i % 20 == 0 then print() end end
io.stdout:setvbuf("full", 4096)
for i = 1, 1500 do print(i, i * 0.25, i % 2 == 0, nil, "s" .. i) end
for i = 1, 50 do io.stderr:write("e", i, i % 25 == 0 and "\n" or "") end
io.stdout:write("a", 1, 2.5, "\n"):write("chained\n")
