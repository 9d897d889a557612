-- Adds to what an account has spent and reserved in the slot of `slot_ms`; in one that has left the period nothing.
function bg.shift_slot(claim, account, slot_ms, spent, reserved)
  bg.live(claim, account)
  account.slots = bg.live_slots(account.slots or bg.NONE, bg.first_live(claim[bg.TERM]))
  local number, slots = bg.slot_of(slot_ms, claim[bg.TERM] / bg.SLOTS), account.slots
  if number < bg.first_live(claim[bg.TERM]) then
    return
  end
  local at = #slots - 2
  while at > 0 and slots[at] > number do
    at = at - 3
  end
  if at <= 0 or slots[at] ~= number then
    at = at + 3
    for _, value in ipairs({ 0, 0, number }) do
      table.insert(slots, at, value)
    end
  end
  local spent_after, reserved_after = bg.bounded(slots[at + 1] + spent), bg.bounded(slots[at + 2] + reserved)
  account.live_spent = account.live_spent + (spent_after - slots[at + 1]) -- in another order, inexact beyond 2^53
  account.live_reserved = account.live_reserved + (reserved_after - slots[at + 2])
  slots[at + 1], slots[at + 2] = spent_after, reserved_after
  if spent_after == 0 and reserved_after == 0 then
    for _ = 1, 3 do
      table.remove(slots, at)
    end
  end
end
