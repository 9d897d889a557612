-- The reservation of an id, nil where there is none or it has outlived its time. What is held is remembered.
local function hold_at(id)
  demand(type(id) == 'string' and id ~= '', 'id')
  local hold = holds[id]
  if hold == nil then
    local key = PREFIX .. 'h:' .. id
    local value = value_at(key)
    hold = value and hold_from(id, key, value) or false
    if hold and hold.state ~= 'held' and hold.keep_until_ms <= now_ms then
      hold = false
    end
    holds[id] = hold
  end
  return hold or nil
end

-- Past the line from which a verb must succeed: notes that a reservation is to be written.
local function change_hold(hold)
  holds[hold.id] = hold
  if not hold.changed then
    hold.changed = true
    changed_holds[#changed_holds + 1] = hold
  end
end
