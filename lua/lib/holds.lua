-- Reservations as they stand in this call. `state` is held, expired, released, tombstone, assumed or settled; `plan` is
-- a text for `plan_from`; estimate, charged and expired (what an expiry had charged) are six amounts; `usage` and
-- `info` are the client's own; `shadows` names the shadow budgets without room. Packed in the order of `hold_from`:
-- the slot's instant and the lease's end as what they are after the admission, amounts that are nothing as {}.
bg.NOTHING = { 0, 0, 0, 0, 0, 0 }
bg.HELD_KEEP_MS = 30 * bg.DAY_MS
local STATES = { held = true, expired = true, released = true, tombstone = true, assumed = true, settled = true }
bg.holds, bg.changed_holds = {}, {}

-- Raises for what is no reservation: the caller knows which key that is.
function bg.hold_from(id, value)
  local state, admitted_ms, slot_after_ms, lease_ms, keep_until_ms, revision, plan, estimate, charged, expired,
    info, usage, shadows = cmsgpack.unpack(value)
  bg.demand_amounts({ admitted_ms, slot_after_ms, lease_ms, keep_until_ms, revision, 0 }, 'times')
  local lease_end_ms = admitted_ms + lease_ms
  estimate, charged = bg.amounts_or_nothing(estimate), bg.amounts_or_nothing(charged)
  bg.demand(STATES[state] and type(plan) == 'string' and type(info) == 'string' and type(usage) == 'string', 'texts')
  bg.demand_texts(shadows)
  return {
    id = id, state = state, admitted_ms = admitted_ms, slot_ms = admitted_ms + slot_after_ms,
    lease_end_ms = lease_end_ms,
    keep_until_ms = state == 'held' and lease_end_ms + bg.HELD_KEEP_MS or keep_until_ms, revision = revision,
    plan = plan, estimate = estimate, charged = charged, expired = bg.amounts_or_nothing(expired), info = info,
    usage = usage, shadows = shadows,
  }
end
