-- What stands in Redis under the keys of this call, read at once.
bg.PREFIX = string.sub(KEYS[1], 1, -5) -- without "meta"
local FIRST = 5 -- the keys before it have names of their own
bg.NONE = {}
bg.values = {} -- false where there is none

function bg.read_all()
  if #KEYS >= FIRST then
    local found = redis.call('MGET', (unpack or table.unpack)(KEYS, FIRST))
    local values, keys = bg.values, KEYS
    for number = 1, #found do
      values[keys[number + FIRST - 1]] = found[number]
    end
  end
end

-- The packed value of a key, nil where there is none. A key of another type is broken, not missing.
function bg.value_at(key)
  local value = bg.values[key]
  if value == nil then
    bg.refuse('undeclared', key)
  elseif not value and redis.call('EXISTS', key) == 1 then
    bg.refuse('broken', key)
  end
  return value or nil
end
