-- Why an account has no room: {digest, reason, limit, spent, reserved, asked, resets_at_ms, retry_ms}, with -1 for an
-- instant that will not come.
local HELD_RETRY_MS = 1000

-- How long until slots that hold `missing` of what was spent have left the period.
local function rolling_retry_ms(claim, account, missing)
  for at = 1, #account.slots, 3 do
    missing = missing - account.slots[at + 1]
    if missing <= 0 then
      return (account.slots[at] + 1) * (claim.term / SLOTS) + claim.term - now_ms
    end
  end
  return claim.term
end

local function violation_of(claim, account, amount, spent, reserved)
  local reason = amount > claim.limit and 'impossible' or amount > claim.limit - spent and 'spent' or 'held'
  local resets_at_ms, retry_ms = claim.kind == CALENDAR and claim.term or -1, -1
  if reason == 'held' then
    retry_ms = HELD_RETRY_MS
  elseif reason == 'spent' and claim.kind == ROLLING then
    retry_ms = rolling_retry_ms(claim, account, amount - (claim.limit - spent))
    resets_at_ms = now_ms + retry_ms
  elseif reason == 'spent' and claim.kind == CALENDAR then
    retry_ms = math.max(claim.term - now_ms, 0)
  end
  return { claim.digest, reason, claim.limit, spent, reserved, amount, resets_at_ms, retry_ms }
end
