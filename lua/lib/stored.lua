-- What stands in Redis under the keys of this call, read at once.
bg.PREFIX = string.sub(KEYS[1], 1, -5) -- without "meta"
local FIRST = 5 -- the keys before it have names of their own
bg.NONE = {}
bg.declared, bg.values = {}, {}

function bg.read_all()
  if #KEYS >= FIRST then
    local found = redis.call('MGET', (unpack or table.unpack)(KEYS, FIRST))
    for number = FIRST, #KEYS do
      bg.declared[KEYS[number]] = true
      bg.values[KEYS[number]] = found[number - FIRST + 1]
    end
  end
end

-- The packed value of a key, nil where there is none. A key of another type is broken, not missing.
function bg.value_at(key)
  if not bg.declared[key] then
    bg.refuse('undeclared', key)
  end
  local value = bg.values[key] or nil
  if not value and redis.call('EXISTS', key) == 1 then
    bg.refuse('broken', key)
  end
  return value
end
