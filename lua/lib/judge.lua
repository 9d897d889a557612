-- Whether an account has room; if not, {digest, reason, limit, spent, reserved, asked, resets_at_ms, retry_ms}, with -1
-- for an instant that will not come.
local HELD_RETRY_MS = 1000

local function judge(claim, account, amount)
  local spent, reserved = spent_and_reserved(claim, account)
  if spent + reserved + amount <= claim.limit then
    return nil
  end
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
