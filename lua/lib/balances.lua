-- How full an account is, and what becomes of it.
local DAY_MS = 86400000
local TOTAL_KEEP_MS = 400 * DAY_MS

local function spent_and_reserved(claim, account)
  if claim.kind ~= ROLLING or not account.slots then
    return account.spent, account.reserved
  end
  local first, spent, reserved = first_live(claim.term), 0, 0
  for at = 1, #account.slots, 3 do
    if account.slots[at] >= first then
      spent, reserved = spent + account.slots[at + 1], reserved + account.slots[at + 2]
    end
  end
  return spent, reserved
end

-- How long an account stands after a write.
local function keep_until_ms(claim, lease_end_ms)
  if claim.kind == CALENDAR then
    return math.max(lease_end_ms, claim.term) + DAY_MS
  elseif claim.kind == ROLLING then
    return now_ms + claim.term + DAY_MS
  end
  return claim.kind == TOTAL and now_ms + TOTAL_KEEP_MS or lease_end_ms + DAY_MS
end
