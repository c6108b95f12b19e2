-- Totals by group out of lines of comma separated values.
local lines = {}
for i = 1, 26000 do lines[i] = ("%d,%s,%d,%.2f"):format(i, "group" .. i % 12, i * 7 % 100, i / 3) end
local totals = {}
for _, line in ipairs(lines) do
  local _, group, amount, price = line:match("^(%d+),([^,]+),(%d+),([%d.]+)$")
  totals[group] = (totals[group] or 0) + amount * price
end
for i = 0, 11 do print("group" .. i, string.format("%.2f", totals["group" .. i])) end
