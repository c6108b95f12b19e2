-- exit: 1
-- os.exit(false) from a coroutine, inside pcall, inside a sort comparator.
local t = {}
for i = 1, 2000 do t[i] = (i * 7919) % 2003 end
local calls = 0
local co = coroutine.wrap(function()
  pcall(function()
    table.sort(t, function(a, b)
      calls = calls + 1
      if calls == 9000 then print("leaving", calls); os.exit(false) end
      return a < b
    end)
  end)
end)
co()
print("not reached")
