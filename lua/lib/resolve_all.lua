-- Resolves a reservation on the accounts of its plan: the hold ends, and `charged` replaces what stood as charged.
-- Those that do not exist are gone. Returns alerts, and digests of the accounts that now stand above their limit.
function bg.resolve_all(hold, plan, found, charged)
  local alerts, overdrawn, held = {}, {}, hold.state == 'held'
  local slot_ms, lease_end_ms, estimate, was_charged = hold.slot_ms, hold.lease_end_ms, hold.estimate, hold.charged
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    if account.exists then
      local unit = claim[2]
      local more = charged[unit] - was_charged[unit]
      bg.shift(claim, account, slot_ms, lease_end_ms, more, held and -estimate[unit] or 0)
      bg.change_account(account)
      if more > 0 then
        local spent = account.live_spent or account.spent
        if claim[bg.LEVELS] and spent >= claim[bg.LEVELS] then
          bg.add_alerts(alerts, claim, account, spent)
        end
        overdrawn[#overdrawn + 1] = spent > claim[5] and claim[bg.DIGEST] or nil
      end
      if account.keep_until_ms <= bg.now_ms and account.reserved == 0 then
        bg.bury(account)
      end
    end
  end
  return alerts, overdrawn
end
