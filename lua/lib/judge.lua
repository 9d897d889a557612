-- Why an account has no room: {digest, reason, limit, spent, reserved, asked, resets_at_ms, retry_ms}, with -1 for an
-- instant that will not come.
local HELD_RETRY_MS = 1000

-- How long until slots that hold `missing` of what was spent have left the period.
local function rolling_retry_ms(span_ms, slots, missing)
  local first = first_live(span_ms)
  for at = 1, #slots, 3 do
    missing = slots[at] >= first and missing - slots[at + 1] or missing
    if missing <= 0 then
      return (slots[at] + 1) * (span_ms / SLOTS) + span_ms - now_ms
    end
  end
  return span_ms
end

local function violation_of(claim, account, amount, spent, reserved)
  local kind, term, limit = claim[KIND], claim[TERM], claim[LIMIT]
  local reason = amount > limit and 'impossible' or amount > limit - spent and 'spent' or 'held'
  local resets_at_ms, retry_ms = kind == CALENDAR and term or -1, -1
  if reason == 'held' then
    retry_ms = HELD_RETRY_MS
  elseif reason == 'spent' and kind == ROLLING then
    retry_ms = rolling_retry_ms(term, account.slots or NONE, amount - (limit - spent))
    resets_at_ms = now_ms + retry_ms
  elseif reason == 'spent' and kind == CALENDAR then
    retry_ms = math.max(term - now_ms, 0)
  end
  return { claim[DIGEST], reason, limit, spent, reserved, amount, resets_at_ms, retry_ms }
end
