-- Claims: the accounts that a call counts against, and the limits that judge them. Packed by the client as
-- {digest, unit, kind, term, limit, shadow budget, level, ...}; the shadow budget is '' where the limit is enforced.
-- `term` is the window's end of a calendar period and the span of a rolling one, in ms.
local CALENDAR, ROLLING, TOTAL, HELD = 1, 2, 3, 4

local function claim_from(fields)
  local claim = {
    fields = fields, digest = fields[1], key = PREFIX .. 'a:' .. fields[1], unit = fields[2], kind = fields[3],
    term = fields[4], limit = fields[5], shadow = fields[6] ~= '' and fields[6] or nil, levels = {},
  }
  local sound = type(claim.unit) == 'number' and claim.kind >= CALENDAR and claim.kind <= HELD
  demand(sound and is_amount(claim.limit) and type(claim.term) == 'number' and type(fields[6]) == 'string', 'claim')
  for number = 7, #fields do
    demand(is_amount(fields[number]), 'level')
    claim.levels[number - 6] = fields[number]
  end
  return claim
end
