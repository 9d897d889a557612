-- Reservations as they stand. `state` is held, expired, released, tombstone, assumed or settled; `plan` is a text for
-- `plan_from`; estimate, charged and expired (what an expiry had charged) are six amounts; `usage` and `info` are the
-- client's own; `shadows` names the shadow budgets without room. Never changed in place.
local HOLD_FIELDS = {
  'state', 'admitted_ms', 'slot_ms', 'lease_end_ms', 'keep_until_ms', 'revision', 'plan', 'estimate', 'charged',
  'expired', 'info', 'usage', 'shadows',
}
local NOTHING = { 0, 0, 0, 0, 0, 0 }
local holds, changed_holds = {}, {}

local function hold_from(key, fields)
  local hold = {}
  for number, name in ipairs(HOLD_FIELDS) do
    hold[name] = fields[number]
  end
  local sound = #fields == #HOLD_FIELDS and type(hold.state) == 'string' and type(hold.plan) == 'string'
  for number = 2, 6 do
    sound = sound and is_amount(fields[number])
  end
  for number = 8, 10 do
    sound = sound and type(fields[number]) == 'table'
    for _, amount in ipairs(sound and fields[number] or {}) do
      sound = sound and is_amount(amount)
    end
  end
  return sound and hold or refuse('broken', key)
end
