-- How long until slots that hold `missing` of what was spent have left the period.
local function rolling_retry_ms(claim, account, missing)
  local length_ms, first = claim.term / SLOTS, first_live(claim.term)
  local slots = account.slots or {}
  for at = 1, #slots, 3 do
    if slots[at] >= first then
      missing = missing - slots[at + 1]
      if missing <= 0 then
        return (slots[at] + 1) * length_ms + claim.term - now_ms
      end
    end
  end
  return claim.term
end
