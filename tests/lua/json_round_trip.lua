-- A small parser and printer: recursion, string scanning, tables, errors.
local function encode(v)
  local t = type(v)
  if t == "table" then
    local out = {}
    if #v > 0 then
      for i = 1, #v do out[i] = encode(v[i]) end
      return "[" .. table.concat(out, ",") .. "]"
    end
    local names = {}
    for k in pairs(v) do names[#names + 1] = k end
    table.sort(names)
    for i, k in ipairs(names) do out[i] = encode(k) .. ":" .. encode(v[k]) end
    return "{" .. table.concat(out, ",") .. "}"
  elseif t == "string" then return '"' .. v:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
  end
  return tostring(v)
end
local decode
local function space(s, i) return s:find("%S", i) or #s + 1 end
local function value(s, i)
  i = space(s, i)
  local c = s:sub(i, i)
  if c == "[" or c == "{" then
    local out, close = {}, c == "[" and "]" or "}"
    i = space(s, i + 1)
    while s:sub(i, i) ~= close do
      local k, v
      if c == "{" then
        k, i = value(s, i)
        i = space(s, i)
        if s:sub(i, i) ~= ":" then error({ at = i, want = ":" }) end
        i = i + 1
      end
      v, i = value(s, i)
      if k then out[k] = v else out[#out + 1] = v end
      i = space(s, i)
      if s:sub(i, i) == "," then i = space(s, i + 1) elseif s:sub(i, i) ~= close then error({ at = i, want = close }) end
    end
    return out, i + 1
  elseif c == '"' then
    local j = s:find('"', i + 1, true) or error({ at = i, want = '"' })
    return (s:sub(i + 1, j - 1):gsub("\\u(%x%x%x%x)", function(h) return utf8.char(tonumber(h, 16)) end)), j + 1
  end
  local word = s:match("^[%w%.+-]+", i) or error({ at = i, want = "value" })
  if word == "true" or word == "false" then return word == "true", i + #word end
  return tonumber(word) or error({ at = i, want = "number" }), i + #word
end
function decode(s) return (value(s, 1)) end
local doc = { list = {}, name = 'quote " and \n', flag = true, pi = 3.25 }
for i = 1, 60 do doc.list[i] = { id = i, tags = { "a" .. i, "b" .. i * 2 }, half = i / 2 } end
local text = encode(doc)
for _ = 1, 8 do
  local again = encode(decode(text))
  assert(again == text)
end
print(#text, text:sub(1, 60))
for _, bad in ipairs { "[1,2", '{"a" 1}', "[1 2]", '"open', "@", "[1,tru]" } do
  local ok, e = pcall(decode, bad)
  print(ok, type(e) == "table" and e.at .. e.want or e)
end
