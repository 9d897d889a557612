-- Claims: the accounts that a call counts against, and the limits that judge them. Packed by the client as
-- {digest, unit, kind, term, limit, shadow budget, level, ...}; the shadow budget is '' where the limit is enforced.
-- `term` is the window's end of a calendar period and the span of a rolling one, in ms.
local CALENDAR, ROLLING, TOTAL, HELD = 1, 2, 3, 4
local DAY_MS = 86400000

local function claim_from(fields)
  local digest, unit, kind, term, limit, shadow = fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]
  local sound = type(digest) == 'string' and type(unit) == 'number' and type(kind) == 'number'
  demand(sound and type(shadow) == 'string' and is_amount(limit), 'claim')
  demand(is_amount(unit) and unit >= 1 and unit <= CONCURRENT, 'unit')
  demand(kind >= CALENDAR and kind <= HELD and is_amount(term), 'period')
  for number = 7, #fields do
    demand(is_amount(fields[number]), 'level')
  end
  return {
    digest = digest, key = PREFIX .. 'a:' .. digest, unit = unit, kind = kind, term = term, limit = limit,
    shadow = shadow ~= '' and shadow or nil, fields = fields,
  }
end
