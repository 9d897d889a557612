-- How an account changes.
local TOTAL_KEEP_MS = 400 * DAY_MS

-- It stands as long as a lease needs it: longer for it, never shorter.
local function prolong(claim, account, lease_end_ms)
  local kind, term = claim.kind, claim.term
  local keep_until_ms
  if kind == CALENDAR then
    keep_until_ms = (lease_end_ms > term and lease_end_ms or term) + DAY_MS
  elseif kind == ROLLING then
    keep_until_ms = now_ms + term + DAY_MS
  else
    keep_until_ms = kind == TOTAL and now_ms + TOTAL_KEEP_MS or lease_end_ms + DAY_MS
  end
  if keep_until_ms > account.keep_until_ms then
    account.keep_until_ms = keep_until_ms
  end
end

-- Adds to what is spent and reserved (either may be negative), in the slot of `slot_ms` on a rolling period.
local function shift(claim, account, slot_ms, lease_end_ms, spent, reserved)
  prolong(claim, account, lease_end_ms)
  if claim.kind == ROLLING then
    shift_slot(claim, account, slot_ms, spent, reserved)
  else
    account.spent, account.reserved = bounded(account.spent + spent), bounded(account.reserved + reserved)
  end
end
