-- What counts now on a rolling period; summed up once in a call of the script.
local function live(claim, account)
  if not account.live_spent then
    local first, spent, reserved = first_live(claim[TERM]), 0, 0
    local slots = account.slots or NONE
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
local function live_or_all(claim, account)
  if claim[KIND] == ROLLING then
    return live(claim, account)
  end
  return account.spent, account.reserved
end
