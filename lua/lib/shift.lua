-- How long an account stands after a write.
local TOTAL_KEEP_MS = 400 * bg.DAY_MS

function bg.prolong(claim, account, lease_end_ms)
  local kind, keep_until_ms = claim[3], lease_end_ms + bg.DAY_MS
  if kind == bg.CALENDAR and lease_end_ms < claim[4] then
    keep_until_ms = claim[4] + bg.DAY_MS
  elseif kind == bg.ROLLING then
    keep_until_ms = bg.now_ms + claim[4] + bg.DAY_MS
  elseif kind == bg.TOTAL then
    keep_until_ms = bg.now_ms + TOTAL_KEEP_MS
  end
  if keep_until_ms > account.keep_until_ms then -- longer, never shorter
    account.keep_until_ms = keep_until_ms
  end
end

-- Adds to what is spent and reserved (either may be negative), in the slot of `slot_ms` on a rolling period.
-- `hold_all` and `resolve_all` do the same in line where they can.
function bg.shift(claim, account, slot_ms, lease_end_ms, spent, reserved)
  bg.prolong(claim, account, lease_end_ms)
  if claim[3] == bg.ROLLING then
    return bg.shift_slot(claim, account, slot_ms, spent, reserved)
  end
  account.spent, account.reserved = bg.bounded(account.spent + spent), bg.bounded(account.reserved + reserved)
end
