-- A copy with some fields changed.
local function with(hold, changes)
  local copy = {}
  for _, name in ipairs(HOLD_FIELDS) do
    copy[name] = changes[name] == nil and hold[name] or changes[name]
  end
  return copy
end

-- Past this line it must succeed: what a verb has decided.
local function change_hold(id, hold)
  holds[id], changed_holds[id] = hold, hold
end
