-- The accounts by key with `amounts` reserved on each; and alerts on `concurrent`, whose level is what is reserved.
local function hold_all(plan, amounts, account_of, lease_end_ms)
  local held, alerts = {}, {}
  for _, claim in ipairs(plan) do
    local before = account_of(claim.key)
    if before then
      local account = shifted(claim, before, now_ms, lease_end_ms, 0, amounts[claim.unit])
      if claim.unit == CONCURRENT then
        local _, reserved = spent_and_reserved(claim, account)
        add_alerts(alerts, claim, account, reserved)
      end
      held[claim.key] = account
    end
  end
  return held, alerts
end

-- Whether an account that is missing may still count: its window has not ended, or not a day ago.
local function unended(claim)
  return claim.kind ~= CALENDAR or now_ms < claim.term + DAY_MS
end
