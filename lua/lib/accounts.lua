-- Accounts as they stand in this call. Packed as spent, reserved, announced, announced_ms, keep_until_ms and, of
-- rolling periods, the slots {number, spent, reserved, number, spent, reserved, ...}, ascending.
local accounts, changed_accounts = {}, {}

local function no_account(key)
  return { key = key, exists = false, spent = 0, reserved = 0, announced = 0, announced_ms = 0, keep_until_ms = 0 }
end

-- Raises for what is no account: the caller knows which key that is.
local function account_from(key, value)
  local spent, reserved, announced, announced_ms, keep_until_ms, slots = cmsgpack.unpack(value)
  demand(is_amount(spent) and is_amount(reserved) and is_amount(announced) and is_amount(announced_ms), 'account')
  demand(is_amount(keep_until_ms) and (slots == nil or #slots % 3 == 0), 'account')
  for _, amount in ipairs(slots or NONE) do
    demand(is_amount(amount), 'slot')
  end
  return {
    key = key, exists = true, spent = spent, reserved = reserved, announced = announced, announced_ms = announced_ms,
    keep_until_ms = keep_until_ms, slots = slots, stood_until_ms = keep_until_ms, stood_held = reserved > 0,
  }
end
