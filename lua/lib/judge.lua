-- Why an account has no room: {digest, reason, limit, spent, reserved, asked, resets_at_ms, retry_ms}, with -1 for an
-- instant that will not come.
local HELD_RETRY_MS = 1000

-- How long until slots that hold `missing` of what was spent have left the period.
function bg.rolling_retry_ms(span_ms, slots, missing)
  local first = bg.first_live(span_ms)
  for at = 1, #slots, 3 do
    missing = slots[at] >= first and missing - slots[at + 1] or missing
    if missing <= 0 then
      return (slots[at] + 1) * (span_ms / bg.SLOTS) + span_ms - bg.now_ms
    end
  end
  return span_ms
end

function bg.violation_of(claim, account, amount, spent, reserved)
  local kind, term, limit = claim[bg.KIND], claim[bg.TERM], claim[bg.LIMIT]
  local reason = amount > limit and 'impossible' or amount > limit - spent and 'spent' or 'held'
  local resets_at_ms, retry_ms = kind == bg.CALENDAR and term or -1, -1
  if reason == 'held' then
    retry_ms = HELD_RETRY_MS
  elseif reason == 'spent' and kind == bg.ROLLING then
    retry_ms = bg.rolling_retry_ms(term, account.slots or bg.NONE, amount - (limit - spent))
    resets_at_ms = bg.now_ms + retry_ms
  elseif reason == 'spent' and kind == bg.CALENDAR then
    retry_ms = math.max(term - bg.now_ms, 0)
  end
  return { claim[bg.DIGEST], reason, limit, spent, reserved, amount, resets_at_ms, retry_ms }
end
