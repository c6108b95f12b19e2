-- A recursive descent parser of expressions.
local function evaluate(s)
  local i = 1
  local function peek() i = s:find("%S", i) or #s + 1; return s:sub(i, i) end
  local expression
  local function atom()
    if peek() == "(" then i = i + 1; local v = expression(); assert(peek() == ")"); i = i + 1; return v end
    local d = s:match("^%d+", i)
    i = i + #d
    return tonumber(d)
  end
  local function term()
    local v = atom()
    while true do
      local c = peek()
      if c == "*" then i = i + 1; v = v * atom() elseif c == "/" then i = i + 1; v = v // atom() else return v end
    end
  end
  function expression()
    local v = term()
    while true do
      local c = peek()
      if c == "+" then i = i + 1; v = v + term() elseif c == "-" then i = i + 1; v = v - term() else return v end
    end
  end
  return expression()
end
local total = 0
for k = 1, 1850 do total = total + evaluate(("(%d + 3) * 2 - 18 / (4 + %d) + (7 * (2 + %d))"):format(k, k % 5, k % 11)) end
print(total)
