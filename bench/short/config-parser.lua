-- Sections and keys of an ini file.
local source = {}
for s = 1, 80 do
  source[#source + 1] = "[section" .. s .. "]"
  for k = 1, 25 do source[#source + 1] = "  key" .. k .. " = value " .. s * k .. " ; comment" end
end
local config, section = {}, nil
for line in (table.concat(source, "\n") .. "\n"):gmatch("(.-)\n") do
  line = line:gsub(";.*", ""):match("^%s*(.-)%s*$")
  local name = line:match("^%[(.+)%]$")
  if name then section = {}; config[name] = section else
    local k, v = line:match("^(%w+)%s*=%s*(.*)$")
    if k then section[k] = v end
  end
end
print(config.section60.key25, config.section1.key1)
