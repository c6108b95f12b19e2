-- Incremental solving of one-way constraints with strengths (the DeltaBlue algorithm).
local size = tonumber(arg and arg[1]) or 14000
local REQUIRED, STRONG, NORMAL, WEAK, WEAKEST = 0, 2, 4, 5, 6
local function weaker(a, b) return a > b end
local function stronger(a, b) return a < b end
local mark = 0
local function new_mark() mark = mark + 1; return mark end
local function variable(value)
  return { value = value, constraints = {}, by = nil, mark = 0, strength = WEAKEST, stay = true }
end
local function drop(list, item)
  for i = 1, #list do if list[i] == item then table.remove(list, i); return end end
end
local C = {}
C.__index = C
local Stay = setmetatable({}, { __index = C })
Stay.__index = Stay
local Equal = setmetatable({}, { __index = C })
Equal.__index = Equal
local Scale = setmetatable({}, { __index = Equal })
Scale.__index = Scale
local incremental_add
function C:satisfy(m)
  self:choose(m)
  if not self:satisfied() then
    if self.strength == REQUIRED then error("a required constraint cannot be satisfied") end
    return nil
  end
  self:mark_inputs(m)
  local out = self:output()
  local overridden = out.by
  if overridden then overridden:unsatisfy() end
  out.by = self
  if not self:propagate(m) then error("a cycle") end
  out.mark = m
  return overridden
end
function C:propagate(m)
  local todo = { self }
  while #todo > 0 do
    local d = table.remove(todo)
    local out = d:output()
    if out.mark == m then return false end
    d:recalculate()
    for _, c in ipairs(out.constraints) do
      if c ~= out.by and c:satisfied() then todo[#todo + 1] = c end
    end
  end
  return true
end
function C:add()
  self:attach()
  incremental_add(self)
end
function incremental_add(c)
  local m = new_mark()
  local over = c:satisfy(m)
  while over do over = over:satisfy(m) end
end
-- Holds a variable where it is, or (edit) where the program puts it.
function Stay.new(v, strength, edit)
  local c = setmetatable({ out = v, strength = strength, edit = edit or false, on = false }, Stay)
  c:add()
  return c
end
function Stay:attach() local l = self.out.constraints; l[#l + 1] = self end
function Stay:detach() drop(self.out.constraints, self); self.on = false end
function Stay:choose(m) self.on = self.out.mark ~= m and stronger(self.strength, self.out.strength) end
function Stay:satisfied() return self.on end
function Stay:unsatisfy() self.on = false end
function Stay:output() return self.out end
function Stay:mark_inputs() end
function Stay:inputs_known() return true end
function Stay:recalculate()
  self.out.strength = self.strength
  self.out.stay = not self.edit
end
-- Two variables, computed one from the other in whichever direction is needed.
function Equal.new(a, b, strength, class, scale, offset)
  local c = setmetatable({ a = a, b = b, strength = strength, forward = nil, scale = scale, offset = offset }, class or Equal)
  c:add()
  return c
end
function Equal:attach()
  local la, lb = self.a.constraints, self.b.constraints
  la[#la + 1], lb[#lb + 1] = self, self
  self.forward = nil
end
function Equal:detach()
  drop(self.a.constraints, self)
  drop(self.b.constraints, self)
  self.forward = nil
end
function Equal:choose(m)
  local a, b = self.a, self.b
  self.forward = nil
  if a.mark == m then
    if b.mark ~= m and stronger(self.strength, b.strength) then self.forward = true end
  elseif b.mark == m then
    if stronger(self.strength, a.strength) then self.forward = false end
  elseif weaker(a.strength, b.strength) then
    if stronger(self.strength, a.strength) then self.forward = false end
  elseif stronger(self.strength, b.strength) then
    self.forward = true
  end
end
function Equal:satisfied() return self.forward ~= nil end
function Equal:unsatisfy() self.forward = nil end
function Equal:input() return self.forward and self.a or self.b end
function Equal:output() return self.forward and self.b or self.a end
function Equal:mark_inputs(m) self:input().mark = m end
function Equal:inputs_known(m) local i = self:input() return i.mark == m or i.stay or i.by == nil end
function Equal:execute() self:output().value = self:input().value end
function Scale:execute()
  if self.forward then self.b.value = self.a.value * self.scale.value + self.offset.value
  else self.a.value = (self.b.value - self.offset.value) // self.scale.value end
end
function Equal:recalculate()
  local i, o = self:input(), self:output()
  o.strength = weaker(self.strength, i.strength) and self.strength or i.strength
  o.stay = i.stay
  if o.stay then self:execute() end
end
local function remove(c)
  local out = c:output()
  c:unsatisfy()
  c:detach()
  out.by, out.strength, out.stay = nil, WEAKEST, true
  local unsatisfied, todo = {}, { out }
  while #todo > 0 do
    local v = table.remove(todo)
    for _, d in ipairs(v.constraints) do if not d:satisfied() then unsatisfied[#unsatisfied + 1] = d end end
    for _, d in ipairs(v.constraints) do
      if d ~= v.by and d:satisfied() then
        d:recalculate()
        todo[#todo + 1] = d:output()
      end
    end
  end
  for s = REQUIRED, WEAKEST do
    for _, d in ipairs(unsatisfied) do if d.strength == s then incremental_add(d) end end
  end
end
local function plan_of(sources)
  local m, plan, todo = new_mark(), {}, {}
  for i, c in ipairs(sources) do todo[i] = c end
  while #todo > 0 do
    local c = table.remove(todo)
    local out = c:output()
    if out.mark ~= m and c:inputs_known(m) then
      plan[#plan + 1] = c
      out.mark = m
      for _, d in ipairs(out.constraints) do if d ~= out.by and d:satisfied() then todo[#todo + 1] = d end end
    end
  end
  return plan
end
local function change(v, value)
  local edit = Stay.new(v, STRONG, true)
  local plan = plan_of { edit }
  for _ = 1, 10 do
    v.value = value
    for _, c in ipairs(plan) do if c.execute then c:execute() end end
  end
  remove(edit)
end
local function chain(n)
  local first = variable(0)
  local v = first
  for _ = 1, n do
    local w = variable(0)
    Equal.new(v, w, REQUIRED)
    v = w
  end
  Stay.new(v, WEAK)
  local edit = Stay.new(first, STRONG, true)
  local plan = plan_of { edit }
  local sum = 0
  for i = 1, 100 do
    first.value = i
    for _, c in ipairs(plan) do if c.execute then c:execute() end end
    assert(v.value == i)
    sum = sum + v.value
  end
  remove(edit)
  return sum, #plan
end
local function projection(n)
  local scale, offset = variable(10), variable(1000)
  local src, dst, dests
  dests = {}
  for i = 1, n do
    src, dst = variable(i), variable(i)
    dests[i] = dst
    Stay.new(src, NORMAL)
    Equal.new(src, dst, REQUIRED, Scale, scale, offset)
  end
  change(src, 17)
  assert(dst.value == 1170)
  change(dst, 1050)
  assert(src.value == 5)
  return src.value + dst.value + #dests
end
local total = 0
for _ = 1, 5 do
  local s, p = chain(size)
  total = total + s + p + projection(size)
end
print(total)
