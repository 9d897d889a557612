-- Resolves a reservation whose lease has passed: charges its estimate or returns it, as its plan says.
-- operation {verb, id}
-- returns {word, alerts, overdrawn, overage, words} or {word}; word is expired, not_due, replayed, finished or unknown;
--   words are those of its accounts, for whoever did not know the reservation
-- never resolves one whose lease still stands
local EXPIRED_KEEP_MS = 7 * bg.DAY_MS

function bg.expire(op)
  local hold = bg.hold_at(op[2])
  if not hold then
    bg.unlist(op[2])
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { hold.state == 'expired' and 'replayed' or 'finished' }
  elseif bg.now_ms < hold.lease_end_ms then
    return { 'not_due' }
  end
  local plan = bg.plan_of(hold)
  local found = bg.accounts_of(plan)
  local digests = bg.counted(plan, found)
  local words = bg.words_of(digests)
  -- Past this line it must succeed.
  local charged = plan.charges and bg.chargeable(hold.estimate) or bg.NOTHING
  local alerts, overdrawn = bg.resolve_all(hold, plan, found, charged)
  hold.state, hold.charged, hold.expired = 'expired', charged, charged
  hold.keep_until_ms, hold.revision = bg.now_ms + EXPIRED_KEEP_MS, hold.revision + 1
  bg.change_hold(hold)
  bg.add_row(hold, 'expired', digests, plan.charges and hold.usage or '', 0, '', false)
  return { 'expired', alerts, overdrawn, false, words }
end
