-- What counts now on a rolling period; summed up once in a call of the script.
function bg.live(claim, account)
  if not account.live_spent then
    local first, spent, reserved = bg.first_live(claim[bg.TERM]), 0, 0
    local slots = account.slots or bg.NONE
    for at = 1, #slots, 3 do
      if slots[at] >= first then
        spent, reserved = spent + slots[at + 1], reserved + slots[at + 2]
      end
    end
    account.live_spent, account.live_reserved = spent, reserved
  end
  return account.live_spent, account.live_reserved
end

-- What counts now on any account.
function bg.live_or_all(claim, account)
  if claim[bg.KIND] == bg.ROLLING then
    return bg.live(claim, account)
  end
  return account.spent, account.reserved
end
