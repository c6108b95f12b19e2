-- Tail calls run in constant stack; between Lua functions, through varargs, to C.
local function loop(n, acc) if n == 0 then return acc end return loop(n - 1, acc + n) end
print(loop(1000000, 0))
local state = {}
function state.a(n, s) if n == 0 then return s end return state[n % 3 == 0 and "b" or "c"](n - 1, s + 1) end
function state.b(n, s) if n == 0 then return s end return state.c(n - 1, s + 10) end
function state.c(n, s) if n == 0 then return s end return state.a(n - 1, s + 100) end
print(state.a(60000, 0))
local function var(n, ...) if n == 0 then return select("#", ...), ... end return var(n - 1, ...) end
print(var(20000, 1, nil, 3))
local function toc(n) return tostring(n) end
local len = 0
for i = 1, 100000 do len = len + #toc(i) end
print(len)
local function viapcall(n) if n == 0 then return "bottom" end return pcall(viapcall, n - 1) end
print(viapcall(3))
local mt = setmetatable({}, { __call = function(self, n, s) if n == 0 then return s end return self(n - 1, s + 1) end })
print(mt(50000, 0))
local function gcd(a, b) if b == 0 then return a end return gcd(b, a % b) end
local g = 0
for i = 1, 5000 do g = g + gcd(i * 12, 5040) end
print(g)
print(pcall(function() return error("from a tail call", 1) end))
