-- Claims: the accounts that a call counts against, and the limits that judge them. A claim is a list, as the client has
-- packed it; its shadow budget is '' where the limit is enforced, its levels begin at LEVELS. The term is the window's
-- end of a calendar period and the span of a rolling one, in ms.
bg.DIGEST, bg.UNIT, bg.KIND, bg.TERM, bg.LIMIT, bg.SHADOW, bg.LEVELS = 1, 2, 3, 4, 5, 6, 7
bg.CALENDAR, bg.ROLLING, bg.TOTAL, bg.HELD = 1, 2, 3, 4
bg.DAY_MS = 86400000

function bg.demand_claim(claim)
  local unit, kind, term, limit = claim[2], claim[3], claim[4], claim[5]
  bg.demand(type(claim[1]) == 'string' and type(claim[6]) == 'string', 'account')
  bg.demand(bg.is_amount(limit) and bg.is_amount(term), 'limit')
  bg.demand(unit >= 1 and unit <= bg.CONCURRENT and unit % 1 == 0 and kind >= 1 and kind <= 4 and kind % 1 == 0, 'unit')
  if claim[#claim] == true then -- the last level is the limit itself
    claim[#claim] = limit
  end
  for number = bg.LEVELS, #claim do
    bg.demand(bg.is_amount(claim[number]), 'level')
  end
end
