-- The reservation of an id, nil where there is none or it has outlived its time. What is held is remembered.
local function hold_at(id)
  demand(type(id) == 'string' and id ~= '', 'id')
  local hold, key = holds[id], PREFIX .. 'h:' .. id
  if hold == nil then
    if not declared[key] then
      refuse('undeclared', '')
    end
    local fields = fields_at(key)
    hold = fields and hold_from(key, fields)
    if hold and hold.state ~= 'held' and hold.keep_until_ms <= now_ms then
      hold = nil
    end
    holds[id] = hold or false
  end
  return hold or nil
end
