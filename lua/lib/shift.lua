-- How long an account stands after a write.
local TOTAL_KEEP_MS = 400 * DAY_MS

local function prolong(claim, account, lease_end_ms)
  local kind, keep_until_ms = claim[3], lease_end_ms + DAY_MS
  if kind == CALENDAR and lease_end_ms < claim[4] then
    keep_until_ms = claim[4] + DAY_MS
  elseif kind == ROLLING then
    keep_until_ms = now_ms + claim[4] + DAY_MS
  elseif kind == TOTAL then
    keep_until_ms = now_ms + TOTAL_KEEP_MS
  end
  if keep_until_ms > account.keep_until_ms then -- longer, never shorter
    account.keep_until_ms = keep_until_ms
  end
end

-- Adds to what is spent and reserved (either may be negative), in the slot of `slot_ms` on a rolling period.
local function shift(claim, account, slot_ms, lease_end_ms, spent, reserved)
  prolong(claim, account, lease_end_ms)
  if claim[3] == ROLLING then
    return shift_slot(claim, account, slot_ms, spent, reserved)
  end
  spent, reserved = account.spent + spent, account.reserved + reserved
  if spent < 0 or reserved < 0 or spent > MOST or reserved > MOST then
    spent, reserved = bounded(spent), bounded(reserved)
  end
  account.spent, account.reserved = spent, reserved
end
