-- What stands in Redis under the keys of this call, read at once.
local PREFIX = string.sub(KEYS[1], 1, -5) -- without "meta"
local FIRST = 5 -- the keys before it have names of their own
local NONE = {}
local declared, values = {}, {}

local function read_all()
  if #KEYS >= FIRST then
    local found = redis.call('MGET', (unpack or table.unpack)(KEYS, FIRST))
    for number = FIRST, #KEYS do
      declared[KEYS[number]] = true
      values[KEYS[number]] = found[number - FIRST + 1]
    end
  end
end

-- The packed value of a key, nil where there is none. A key of another type is broken, not missing.
local function value_at(key)
  if not declared[key] then
    refuse('undeclared', key)
  end
  local value = values[key] or nil
  if not value and redis.call('EXISTS', key) == 1 then
    refuse('broken', key)
  end
  return value
end
