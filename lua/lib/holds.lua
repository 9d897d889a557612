-- Reservations as they stand in this call. `state` is held, expired, released, tombstone, assumed or settled; `plan` is
-- a text for `plan_from`; estimate, charged and expired (what an expiry had charged) are six amounts; `usage` and
-- `info` are the client's own; `shadows` names the shadow budgets without room. Packed in the order of `hold_from`.
local NOTHING = { 0, 0, 0, 0, 0, 0 }
local holds, changed_holds = {}, {}

local function are_amounts(list)
  for number = 1, type(list) == 'table' and #list or 0 do
    if not is_amount(list[number]) then
      return false
    end
  end
  return type(list) == 'table'
end

local function hold_from(id, key, value)
  local ok, state, admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision, plan, estimate, charged, expired, info,
    usage, shadows = pcall(cmsgpack.unpack, value)
  local sound = ok and is_amount(admitted_ms) and is_amount(slot_ms) and is_amount(lease_end_ms)
  sound = sound and is_amount(keep_until_ms) and is_amount(revision) and type(plan) == 'string'
  if not (sound and are_amounts(estimate) and are_amounts(charged) and type(shadows) == 'table') then
    refuse('broken', key)
  end
  return {
    id = id, state = state, admitted_ms = admitted_ms, slot_ms = slot_ms, lease_end_ms = lease_end_ms,
    keep_until_ms = keep_until_ms, revision = revision, plan = plan, estimate = estimate, charged = charged,
    expired = expired, info = info, usage = usage, shadows = shadows,
  }
end
