-- Resolves a reservation on its accounts: the hold ends, and `charged` replaces what stood as charged. Returns the
-- accounts by key, digests of those that are gone, alerts, and digests of those now above their limit.
local function resolve_all(hold, charged, account_of)
  local resolved, gone, alerts, overdrawn = {}, {}, {}, {}
  for _, claim in ipairs(plan_from(hold.plan)) do
    local before = account_of(claim)
    if before then
      local more = charged[claim.unit] - hold.charged[claim.unit]
      local back = hold.state == 'held' and hold.estimate[claim.unit] or 0
      local account = shifted(claim, before, hold.slot_ms, hold.lease_end_ms, more, -back)
      if more > 0 then
        local spent = spent_and_reserved(claim, account)
        add_alerts(alerts, claim, account, spent)
        overdrawn[#overdrawn + 1] = spent > claim.limit and claim.digest or nil
      end
      resolved[claim.key] = account
    else
      gone[claim.digest] = true
    end
  end
  return resolved, gone, alerts, overdrawn
end
