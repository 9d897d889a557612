-- Claims: the accounts that a call counts against, and the limits that judge them. A claim is a list, as the client has
-- packed it; its shadow budget is '' where the limit is enforced, its levels begin at LEVELS. The term is the window's
-- end of a calendar period and the span of a rolling one, in ms.
local DIGEST, UNIT, KIND, TERM, LIMIT, SHADOW, LEVELS = 1, 2, 3, 4, 5, 6, 7
local CALENDAR, ROLLING, TOTAL, HELD = 1, 2, 3, 4
local DAY_MS = 86400000

local function demand_claim(claim)
  local unit, kind, term, limit = claim[2], claim[3], claim[4], claim[5]
  demand(type(claim[1]) == 'string' and type(claim[6]) == 'string', 'account')
  demand(is_amount(limit) and is_amount(term), 'limit')
  demand(unit >= 1 and unit <= CONCURRENT and unit % 1 == 0 and kind >= 1 and kind <= 4 and kind % 1 == 0, 'unit')
  for number = LEVELS, #claim do
    demand(is_amount(claim[number]), 'level')
  end
end
