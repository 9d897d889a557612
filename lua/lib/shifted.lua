-- The account with amounts added to what is spent and reserved (either may be negative), in the slot of `slot_ms` on a
-- rolling period. It stands longer for it, never shorter.
local function shifted(claim, account, slot_ms, lease_end_ms, spent, reserved)
  local after = {
    spent = account.spent, reserved = account.reserved, announced = account.announced,
    announced_ms = account.announced_ms, slots = account.slots,
    keep_until_ms = math.max(account.keep_until_ms, keep_until_ms(claim, lease_end_ms)),
  }
  if claim.kind == ROLLING then
    after.slots = shifted_slots(claim.term, account.slots or {}, slot_ms, spent, reserved)
  else
    after.spent, after.reserved = bounded(account.spent + spent), bounded(account.reserved + reserved)
  end
  return after
end

-- A lease that is extended keeps its accounts as long as it needs them.
local function leased(claim, account, lease_end_ms)
  if claim.kind == ROLLING or claim.kind == TOTAL then
    return account
  end
  return shifted(claim, account, 0, lease_end_ms, 0, 0)
end
