-- exit: 0
-- os.exit(true, true) closes the state: pending closes and finalizers run.
local g = setmetatable({}, { __gc = function() io.write("collected\n") end })
local function run()
  local c <close> = setmetatable({}, { __close = function() io.write("closed\n") end })
  local n = 0
  while true do
    n = n + 1
    if n == 30000 then io.write("exit at ", n, "\n"); os.exit(true, true) end
  end
end
run()
