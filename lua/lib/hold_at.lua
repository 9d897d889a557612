-- The reservation of an id, nil where there is none or it has outlived its time. What is held is remembered.
function bg.hold_at(id)
  bg.demand(type(id) == 'string' and id ~= '', 'id')
  local hold = bg.holds[id]
  if hold == nil then
    local key = bg.PREFIX .. 'h:' .. id
    local value, sound = bg.value_at(key), true
    if value then sound, hold = pcall(bg.hold_from, id, value) end
    if not sound then bg.refuse('broken', key) end
    local stands = hold and (hold.state == 'held' or hold.keep_until_ms > bg.now_ms)
    bg.holds[id] = stands and hold or false
    hold = bg.holds[id]
  end
  return hold or nil
end

-- The plan of a reservation; what is wrong with it is wrong with its record.
function bg.plan_of(hold)
  local sound, plan = pcall(bg.plan_from, hold.plan)
  return sound and plan or bg.refuse('broken', bg.PREFIX .. 'h:' .. hold.id)
end

-- Past the line from which a verb must succeed: notes that a reservation is to be written.
function bg.change_hold(hold)
  bg.holds[hold.id] = hold
  if not hold.changed then
    hold.changed = true
    bg.changed_holds[#bg.changed_holds + 1] = hold
  end
end
