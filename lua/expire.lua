-- Resolves a reservation whose lease has passed: charges its estimate or returns it, as its plan says.
-- operation {verb, id}
-- returns {word, alerts, overdrawn, overage, words}; word is expired, not_due, replayed, finished or unknown; words are
--   those of its accounts, for whoever did not know the reservation
-- never resolves one whose lease still stands
local EXPIRED_KEEP_MS = 7 * DAY_MS

local function expire(op)
  local hold = hold_at(op[2])
  if not hold then
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { hold.state == 'expired' and 'replayed' or 'finished' }
  elseif now_ms < hold.lease_end_ms then
    return { 'not_due' }
  end
  local plan = plan_from(hold.plan)
  demand_declared(plan)
  local charged = plan.charges and chargeable(hold.estimate) or NOTHING
  local resolved, gone, alerts, overdrawn = resolve_all(hold, charged, standing)
  local expired = with(hold, {
    state = 'expired', charged = charged, expired = charged, keep_until_ms = now_ms + EXPIRED_KEEP_MS,
    revision = hold.revision + 1,
  })
  local words = counted(plan, gone)
  -- Past this line it must succeed.
  change_accounts(resolved)
  change_hold(op[2], expired)
  add_row(op[2], expired, 'expired', words, { usage = plan.charges and hold.usage or '' })
  return { 'expired', alerts, overdrawn, false, words }
end
