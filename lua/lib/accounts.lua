-- Accounts as they stand in this call. Packed as five doubles, which hold amounts exactly: spent, reserved, announced,
-- announced_ms, keep_until_ms; then, of rolling periods, the slots {number, spent, reserved, ...}, ascending.
bg.ACCOUNT = '<ddddd'
local ACCOUNT_BYTES = 40
bg.accounts = {}

function bg.no_account(key)
  return { key = key, exists = false, spent = 0, reserved = 0, announced = 0, announced_ms = 0, keep_until_ms = 0 }
end

-- Raises for what is no account: the caller knows which key that is.
function bg.account_from(key, value)
  local spent, reserved, announced, announced_ms, keep_until_ms = struct.unpack(bg.ACCOUNT, value)
  local slots = #value > ACCOUNT_BYTES and cmsgpack.unpack(string.sub(value, ACCOUNT_BYTES + 1)) or nil
  local most = bg.MOST -- in line, because it is done for every account; NaN fails
  local sound = spent >= 0 and spent <= most and spent % 1 == 0 and reserved >= 0 and reserved <= most
  sound = sound and reserved % 1 == 0 and announced >= 0 and announced <= most and announced_ms >= 0
  if not (sound and announced_ms <= most and keep_until_ms >= 0 and keep_until_ms <= most) then
    bg.refuse('invalid', 'account')
  end
  for number = 1, slots and #slots or 0 do
    bg.demand(bg.is_amount(slots[number]), 'slot')
  end
  bg.demand(slots == nil or (#slots % 3 == 0 and (#slots > 0 or next(slots) == nil)), 'slots')
  return {
    key = key, exists = true, spent = spent, reserved = reserved, announced = announced, announced_ms = announced_ms,
    keep_until_ms = keep_until_ms, slots = slots, stood_until_ms = keep_until_ms,
  }
end
