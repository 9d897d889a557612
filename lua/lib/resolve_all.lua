-- Resolves a reservation on the accounts of its plan: the hold ends, and `charged` replaces what stood as charged.
-- Those that do not exist are gone. Returns alerts, and digests of the accounts that now stand above their limit.
function bg.resolve_all(hold, plan, found, charged)
  local alerts, overdrawn, calendar, now_ms, most = {}, {}, bg.CALENDAR, bg.now_ms, bg.MOST
  local slot_ms, lease_end_ms, leased_ms = hold.slot_ms, hold.lease_end_ms, hold.lease_end_ms + bg.DAY_MS
  local more, back = bg.less(charged, hold.charged), hold.state == 'held' and hold.estimate or bg.NOTHING
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    if account.exists then
      local added, returned = more[claim[2]], back[claim[2]]
      local spent, reserved = account.spent + added, account.reserved - returned
      local simple = claim[3] == calendar and account.keep_until_ms >= leased_ms -- and so past its window's end
      if simple and spent >= 0 and spent <= most and reserved >= 0 then -- `shift` in line, because most are
        account.spent, account.reserved, account.changed = spent, reserved, true
      else
        bg.shift(claim, account, slot_ms, lease_end_ms, added, -returned)
        bg.change_account(account)
        spent = account.live_spent or account.spent
      end
      if added > 0 then
        if claim[7] and spent >= claim[7] then bg.add_alerts(alerts, claim, account, spent) end
        if spent > claim[5] then overdrawn[#overdrawn + 1] = claim[1] end
      end
      if account.keep_until_ms <= now_ms and account.reserved == 0 then bg.bury(account) end
    end
  end
  return alerts, overdrawn
end
