-- Parsing and printing JSON: bytes of strings, recursion, small tables.
local rounds = tonumber(arg and arg[1]) or 550
local byte, sub, find, concat = string.byte, string.sub, string.find, table.concat
local escapes = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }
local parse_value
local function skip(s, i)
  local c = byte(s, i)
  while c == 32 or c == 10 or c == 13 or c == 9 do
    i = i + 1
    c = byte(s, i)
  end
  return i, c
end
local function parse_string(s, i)
  local out, start = nil, i
  while true do
    local c = byte(s, i)
    if c == 34 then
      local piece = sub(s, start, i - 1)
      if out then out[#out + 1] = piece; return concat(out), i + 1 end
      return piece, i + 1
    elseif c == 92 then
      out = out or {}
      out[#out + 1] = sub(s, start, i - 1)
      local e = sub(s, i + 1, i + 1)
      if e == "u" then
        out[#out + 1] = utf8.char(tonumber(sub(s, i + 2, i + 5), 16))
        i = i + 6
      else
        out[#out + 1] = escapes[e] or error("bad escape at " .. i)
        i = i + 2
      end
      start = i
    elseif c then i = i + 1 else error("string without an end") end
  end
end
function parse_value(s, i)
  local c
  i, c = skip(s, i)
  if c == 123 then
    local object = {}
    i, c = skip(s, i + 1)
    if c == 125 then return object, i + 1 end
    while true do
      local key, value
      if c ~= 34 then error("a name expected at " .. i) end
      key, i = parse_string(s, i + 1)
      i, c = skip(s, i)
      if c ~= 58 then error("a colon expected at " .. i) end
      value, i = parse_value(s, i + 1)
      object[key] = value
      i, c = skip(s, i)
      if c == 125 then return object, i + 1 end
      if c ~= 44 then error("a comma expected at " .. i) end
      i, c = skip(s, i + 1)
    end
  elseif c == 91 then
    local array, n = {}, 0
    i, c = skip(s, i + 1)
    if c == 93 then return array, i + 1 end
    while true do
      n = n + 1
      array[n], i = parse_value(s, i)
      i, c = skip(s, i)
      if c == 93 then return array, i + 1 end
      if c ~= 44 then error("a comma expected at " .. i) end
      i = i + 1
    end
  elseif c == 34 then return parse_string(s, i + 1)
  elseif c == 116 and sub(s, i, i + 3) == "true" then return true, i + 4
  elseif c == 102 and sub(s, i, i + 4) == "false" then return false, i + 5
  end
  local _, last = find(s, "^-?%d+%.?%d*[eE]?[+-]?%d*", i)
  return tonumber(sub(s, i, last)), last + 1
end
local function quote(c) return ("\\u%04x"):format(byte(c)) end
local function print_value(v, out)
  local t = type(v)
  if t == "table" then
    if v[1] ~= nil then
      for i = 1, #v do
        out[#out + 1] = i == 1 and "[" or ","
        print_value(v[i], out)
      end
      out[#out + 1] = "]"
    else
      local names = {}
      for k in pairs(v) do names[#names + 1] = k end
      table.sort(names)
      out[#out + 1] = "{"
      for i, k in ipairs(names) do
        if i > 1 then out[#out + 1] = "," end
        print_value(k, out)
        out[#out + 1] = ":"
        print_value(v[k], out)
      end
      out[#out + 1] = "}"
    end
  elseif t == "string" then out[#out + 1] = '"' .. v:gsub('[%c"\\]', quote) .. '"'
  else out[#out + 1] = tostring(v) end
end
local source = { '{"items": [' }
for i = 1, 150 do
  source[#source + 1] = (i > 1 and ", " or "") .. ([[{"id": %d, "name": "item \"%d\"", "price": %.2f,
    "tags": ["red", "t%d", "\u00e9\n"], "stock": {"here": %d, "there": -%d, "open": %s}}]]):format(
    i, i * 7, i * 1.25, i % 9, i % 13, i, i % 2 == 0 and "true" or "false")
end
source[#source + 1] = '], "empty": {}, "exponent": 1.5e3}'
local text = concat(source)
local bytes, hash = 0, 0
for _ = 1, rounds do
  local out = {}
  print_value(parse_value(text, 1), out)
  local again = concat(out)
  bytes, hash = bytes + #again, 0
  for i = 1, #again, 5 do hash = (hash * 31 + byte(again, i)) & 0xffffffff end
end
print(bytes, hash)
