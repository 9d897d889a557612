-- Reserves amounts on the accounts of a plan; one that is false is gone. Returns alerts on `concurrent`, whose level is
-- what is reserved.
function bg.hold_all(plan, found, amounts, lease_end_ms)
  local alerts = {}
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    if account then
      bg.shift(claim, account, bg.now_ms, lease_end_ms, 0, amounts[claim[2]])
      if claim[2] == bg.CONCURRENT then
        local _, reserved = bg.live_or_all(claim, account)
        bg.add_alerts(alerts, claim, account, reserved)
      end
    end
  end
  return alerts
end
