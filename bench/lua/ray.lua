-- A ray tracer: spheres, one light, reflections; vectors as objects with metamethods.
local size = tonumber(arg and arg[1]) or 480
local V = {}
V.__index = V
local function vec(x, y, z) return setmetatable({ x = x, y = y, z = z }, V) end
V.__add = function(a, b) return vec(a.x + b.x, a.y + b.y, a.z + b.z) end
V.__sub = function(a, b) return vec(a.x - b.x, a.y - b.y, a.z - b.z) end
V.__mul = function(a, k) return vec(a.x * k, a.y * k, a.z * k) end
function V:dot(b) return self.x * b.x + self.y * b.y + self.z * b.z end
function V:unit() return self * (1 / math.sqrt(self:dot(self))) end
local spheres = {}
for i = 0, 8 do
  spheres[#spheres + 1] = { center = vec((i % 3 - 1) * 2.2, (i // 3 - 1) * 2.2, 6 + i % 2), r2 = 1.0, shine = i % 3 / 4, color = 0.4 + i / 15 }
end
local light = vec(-5, -8, -4)
local function nearest(from, dir)
  local best, hit = math.huge, nil
  for i = 1, #spheres do
    local s = spheres[i]
    local to = s.center - from
    local along = to:dot(dir)
    if along > 0 then
      local d2 = to:dot(to) - along * along
      if d2 < s.r2 then
        local t = along - math.sqrt(s.r2 - d2)
        if t > 1e-6 and t < best then best, hit = t, s end
      end
    end
  end
  return hit, best
end
local function trace(from, dir, depth)
  local s, t = nearest(from, dir)
  if not s then return 0.1 + 0.1 * dir.y end
  local point = from + dir * t
  local normal = (point - s.center):unit()
  local to_light = (light - point):unit()
  local brightness = 0.05
  if not nearest(point, to_light) then
    local d = normal:dot(to_light)
    if d > 0 then brightness = brightness + d * s.color end
  end
  if depth > 0 and s.shine > 0 then
    local reflected = dir - normal * (2 * normal:dot(dir))
    brightness = brightness * (1 - s.shine) + s.shine * trace(point, reflected, depth - 1)
  end
  return brightness
end
local eye, total, hash = vec(0, 0, -2), 0.0, 0
for y = 0, size - 1 do
  for x = 0, size - 1 do
    local b = trace(eye, vec((x - size / 2) / size, (y - size / 2) / size, 1.0):unit(), 3)
    total = total + b
    hash = (hash * 31 + math.floor(b * 255)) & 0xffffffff
  end
end
print(string.format("%.6f", total), hash)
