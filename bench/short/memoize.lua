-- Longest common subsequences with a table of results.
local function lcs(a, b)
  local memo = {}
  local function go(i, j)
    if i == 0 or j == 0 then return 0 end
    local key = i * 1000 + j
    local hit = memo[key]
    if hit then return hit end
    local r
    if a:byte(i) == b:byte(j) then r = go(i - 1, j - 1) + 1 else r = math.max(go(i - 1, j), go(i, j - 1)) end
    memo[key] = r
    return r
  end
  return go(#a, #b)
end
print(lcs(("abcde"):rep(80), ("badce"):rep(80)))
