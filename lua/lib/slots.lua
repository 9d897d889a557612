-- Rolling periods are kept in 60 slots, of which 61 count at any time: slot s is [s * length, (s + 1) * length) ms.
local SLOTS = 60

local function slot_of(instant_ms, length_ms)
  return (instant_ms - instant_ms % length_ms) / length_ms
end

-- The oldest slot that counts now: one counts until its end has left the period.
local function first_live(span_ms)
  return slot_of(now_ms - span_ms, span_ms / SLOTS)
end

-- What counts now on a rolling period. Slots that have left it are forgotten.
local function live(claim, account)
  if not account.live_spent then
    local first, kept, spent, reserved = first_live(claim.term), {}, 0, 0
    local slots = account.slots or NONE
    for at = 1, #slots, 3 do
      if slots[at] >= first then
        kept[#kept + 1], kept[#kept + 2], kept[#kept + 3] = slots[at], slots[at + 1], slots[at + 2]
        spent, reserved = spent + slots[at + 1], reserved + slots[at + 2]
      end
    end
    account.slots, account.live_spent, account.live_reserved = kept, spent, reserved
  end
  return account.live_spent, account.live_reserved
end
