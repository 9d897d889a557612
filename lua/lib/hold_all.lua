-- Reserves amounts on the accounts of a plan, which exist from then on; one that is false is gone. Returns alerts on
-- `concurrent`, whose level is what is reserved.
function bg.hold_all(plan, found, amounts, lease_end_ms)
  local alerts, now_ms, calendar, day_ms, most = {}, bg.now_ms, bg.CALENDAR, bg.DAY_MS, bg.MOST
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    if account and claim[3] == calendar then -- `shift` in line, because most are: it is a call's longest loop
      local term, reserved = claim[4], account.reserved + amounts[claim[2]]
      local keep_until_ms = (lease_end_ms < term and term or lease_end_ms) + day_ms
      if keep_until_ms > account.keep_until_ms then
        account.keep_until_ms = keep_until_ms
      end
      account.reserved, account.exists, account.changed = reserved < most and reserved or most, true, true
    elseif account then
      bg.shift(claim, account, now_ms, lease_end_ms, 0, amounts[claim[2]])
      bg.change_account(account)
      if claim[2] == bg.CONCURRENT then
        local _, reserved = bg.live_or_all(claim, account)
        bg.add_alerts(alerts, claim, account, reserved)
      end
    end
  end
  return alerts
end
