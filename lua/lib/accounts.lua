-- Accounts as they stand in this call. Packed as spent, reserved, announced, announced_ms, keep_until_ms and, of
-- rolling periods, the slots {number, spent, reserved, number, spent, reserved, ...}, ascending.
local accounts, changed_accounts = {}, {}

local function no_account(key)
  return { key = key, exists = false, spent = 0, reserved = 0, announced = 0, announced_ms = 0, keep_until_ms = 0 }
end

local function are_slots(slots)
  for _, amount in ipairs(slots) do
    if not is_amount(amount) then
      return false
    end
  end
  return #slots % 3 == 0
end

local function account_from(key, value)
  local ok, spent, reserved, announced, announced_ms, keep_until_ms, slots = pcall(cmsgpack.unpack, value)
  local sound = ok and is_amount(spent) and is_amount(reserved) and is_amount(announced) and is_amount(announced_ms)
  if not (sound and is_amount(keep_until_ms) and (slots == nil or (type(slots) == 'table' and are_slots(slots)))) then
    refuse('broken', key)
  end
  return {
    key = key, exists = true, spent = spent, reserved = reserved, announced = announced, announced_ms = announced_ms,
    keep_until_ms = keep_until_ms, slots = slots, stood_until_ms = keep_until_ms, stood_held = reserved > 0,
  }
end
