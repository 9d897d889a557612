-- Moves the end of a lease, never to an earlier instant.
-- operation {verb, id, lease_ms}
-- returns {word, admitted_ms}; word is extended, replayed, finished or unknown
-- never changes an amount
local function extend(op)
  local id, lease_ms = op[2], op[3]
  demand(is_amount(lease_ms), 'times')
  local hold, lease_end_ms = hold_at(id), now_ms + lease_ms
  if not hold then
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { 'finished', hold.admitted_ms }
  elseif lease_end_ms <= hold.lease_end_ms then
    return { 'replayed', hold.admitted_ms }
  end
  local plan, kept = plan_from(hold.plan), {}
  demand_declared(plan)
  for _, claim in ipairs(plan) do
    local account = account_at(claim.key)
    kept[claim.key] = account and leased(claim, account, lease_end_ms) or nil
  end
  -- Past this line it must succeed.
  change_accounts(kept)
  change_hold(id, with(hold, { lease_end_ms = lease_end_ms, keep_until_ms = lease_end_ms + HELD_KEEP_MS }))
  return { 'extended', hold.admitted_ms }
end
