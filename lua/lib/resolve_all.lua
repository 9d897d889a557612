-- Resolves a reservation on the accounts of its plan: the hold ends, and `charged` replaces what stood as charged.
-- Those that do not exist are gone. Returns alerts, and digests of the accounts that now stand above their limit.
local function resolve_all(hold, plan, found, charged)
  local alerts, overdrawn, held = {}, {}, hold.state == 'held'
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    if account.exists then
      local unit = claim.unit
      local more = charged[unit] - hold.charged[unit]
      shift(claim, account, hold.slot_ms, hold.lease_end_ms, more, held and -hold.estimate[unit] or 0)
      change_account(account)
      if more > 0 then
        local spent = live_or_all(claim, account)
        add_alerts(alerts, claim, account, spent)
        if spent > claim.limit then
          overdrawn[#overdrawn + 1] = claim.digest
        end
      end
    end
  end
  return alerts, overdrawn
end
