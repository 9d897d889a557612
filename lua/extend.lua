-- Moves the end of a lease, never to an earlier instant.
-- operation {verb, id, lease_ms}
-- returns {word, admitted_ms} or {word}; word is extended, replayed, finished or unknown
-- never changes an amount
function bg.extend(op)
  local id, lease_ms = op[2], op[3]
  bg.demand(bg.is_time(lease_ms), 'times')
  local hold, lease_end_ms = bg.hold_at(id), bg.now_ms + lease_ms
  if not hold then
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { 'finished', hold.admitted_ms }
  elseif lease_end_ms <= hold.lease_end_ms then
    return { 'replayed', hold.admitted_ms }
  end
  local plan = bg.plan_of(hold)
  local found = bg.accounts_of(plan)
  -- Past this line it must succeed.
  for number, claim in ipairs(plan) do
    local leased = claim[bg.KIND] == bg.CALENDAR or claim[bg.KIND] == bg.HELD
    if leased and found[number].exists then
      bg.prolong(claim, found[number], lease_end_ms)
      bg.change_account(found[number])
    end
  end
  hold.lease_end_ms, hold.keep_until_ms = lease_end_ms, lease_end_ms + bg.HELD_KEEP_MS
  bg.change_hold(hold)
  return { 'extended', hold.admitted_ms }
end
