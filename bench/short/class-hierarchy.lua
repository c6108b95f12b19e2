-- A few classes and many small objects.
local function class(parent) local c = setmetatable({}, { __index = parent }); c.__index = c; return c end
local Account = class()
function Account.new(c, n) return setmetatable({ balance = n }, c) end
function Account:deposit(n) self.balance = self.balance + n; return self end
function Account:fee() return 1 end
function Account:month() return self:deposit(-self:fee()) end
local Saver = class(Account)
function Saver:fee() return 0 end
function Saver:month() return Account.month(self):deposit(self.balance // 100) end
local all = {}
for i = 1, 500 do all[i] = (i % 2 == 0 and Saver or Account):new(i * 10) end
for _ = 1, 1050 do for _, a in ipairs(all) do a:month() end end
local total = 0
for _, a in ipairs(all) do total = total + a.balance end
print(total)
