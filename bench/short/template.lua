-- A page made from a template.
local row = "<tr><td>${name}</td><td>${price}</td></tr>\n"
local out = {}
for i = 1, 19000 do out[i] = row:gsub("%${(%w+)}", { name = "item " .. i, price = i * 0.75 }) end
local page = table.concat(out)
print(#page, page:sub(-40))
