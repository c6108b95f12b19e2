-- A hundred balls in a box: methods, fields and a pseudo-random generator.
local rounds = tonumber(arg and arg[1]) or 150000
local Random = {}
Random.__index = Random
function Random:next()
  self.seed = (self.seed * 1309 + 13849) & 65535
  return self.seed
end
local Ball = {}
Ball.__index = Ball
function Ball.new(r)
  return setmetatable({ x = r:next() % 500, y = r:next() % 500, dx = r:next() % 300 - 150, dy = r:next() % 300 - 150 }, Ball)
end
function Ball:bounce()
  local hit = false
  self.x, self.y = self.x + self.dx, self.y + self.dy
  if self.x > 500 then self.x, self.dx, hit = 500, -math.abs(self.dx), true end
  if self.x < 0 then self.x, self.dx, hit = 0, math.abs(self.dx), true end
  if self.y > 500 then self.y, self.dy, hit = 500, -math.abs(self.dy), true end
  if self.y < 0 then self.y, self.dy, hit = 0, math.abs(self.dy), true end
  return hit
end
local r = setmetatable({ seed = 74755 }, Random)
local balls = {}
for i = 1, 100 do balls[i] = Ball.new(r) end
local bounces = 0
for _ = 1, rounds do
  for i = 1, #balls do
    if balls[i]:bounce() then bounces = bounces + 1 end
  end
end
print(bounces, balls[1].x, balls[100].y)
