-- The live slots after adding to that of `slot_ms`; what belongs to one that has left the period counts no more.
local function shifted_slots(span_ms, slots, slot_ms, spent, reserved)
  local first, number, kept = first_live(span_ms), slot_of(slot_ms, span_ms / SLOTS), {}
  local function keep(slot, slot_spent, slot_reserved)
    if slot >= first and (slot_spent > 0 or slot_reserved > 0) then
      kept[#kept + 1], kept[#kept + 2], kept[#kept + 3] = slot, slot_spent, slot_reserved
    end
  end
  local placed = false
  for at = 1, #slots, 3 do
    local same = slots[at] == number
    if slots[at] > number and not placed then
      keep(number, bounded(spent), bounded(reserved))
    end
    placed = placed or slots[at] >= number
    keep(slots[at], bounded(slots[at + 1] + (same and spent or 0)), bounded(slots[at + 2] + (same and reserved or 0)))
  end
  if not placed then
    keep(number, bounded(spent), bounded(reserved))
  end
  return kept
end
