-- Accounts as they stand: spent, reserved, announced, announced_ms, keep_until_ms, and of rolling periods the slots
-- {number, spent, reserved, number, spent, reserved, ...}, ascending. Never changed in place: `shifted` makes new ones.
local ACCOUNT_FIELDS = 5
local accounts, accounts_before, changed_accounts = {}, {}, {}
local EMPTY = { spent = 0, reserved = 0, announced = 0, announced_ms = 0, keep_until_ms = 0 }

local function account_from(key, fields)
  local slots = fields[6]
  local sound = #fields >= ACCOUNT_FIELDS and (slots == nil or (type(slots) == 'table' and #slots % 3 == 0))
  for number = 1, ACCOUNT_FIELDS do
    sound = sound and is_amount(fields[number])
  end
  for _, amount in ipairs(sound and slots or {}) do
    sound = sound and is_amount(amount)
  end
  if not sound then
    refuse('broken', key)
  end
  return {
    spent = fields[1], reserved = fields[2], announced = fields[3], announced_ms = fields[4],
    keep_until_ms = fields[5], slots = slots,
  }
end
