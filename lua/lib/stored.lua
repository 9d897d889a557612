-- What stands in Redis under the keys of this call, read at once, and what this call has changed of it.
local PREFIX = string.sub(KEYS[1], 1, -5) -- without "meta"
local FIRST = 5 -- the keys before it have names of their own
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

-- The fields of a packed value, nil where there is none. A key of another type is broken, not missing.
local function fields_at(key)
  local value = values[key]
  if not value then
    return redis.call('EXISTS', key) == 1 and refuse('broken', key) or nil
  end
  local ok, fields, more = pcall(cmsgpack.unpack, value)
  if not ok or type(fields) ~= 'table' or more ~= nil then
    refuse('broken', key)
  end
  return fields
end
