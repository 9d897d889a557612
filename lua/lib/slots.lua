-- Rolling periods are kept in 60 slots, of which 61 count at any time: slot s is [s * length, (s + 1) * length) ms.
bg.SLOTS = 60

function bg.slot_of(instant_ms, length_ms)
  return (instant_ms - instant_ms % length_ms) / length_ms
end

-- The oldest slot that counts now: one counts until its end has left the period.
function bg.first_live(span_ms)
  return bg.slot_of(bg.now_ms - span_ms, span_ms / bg.SLOTS)
end

-- The slots that count: the list itself where all do.
function bg.live_slots(slots, first)
  if slots[1] and slots[1] >= first then
    return slots
  end
  local kept = {}
  for at = 1, #slots, 3 do
    for number = at, slots[at] >= first and at + 2 or 0 do
      kept[#kept + 1] = slots[number]
    end
  end
  return kept
end
