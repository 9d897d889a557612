-- Claims: the accounts that a call counts against, and the limits that judge them. A claim is a list, as the client has
-- packed it; its shadow budget is '' where the limit is enforced, its levels begin at LEVELS. The term is the window's
-- end of a calendar period and the span of a rolling one, in ms.
bg.DIGEST, bg.UNIT, bg.KIND, bg.TERM, bg.LIMIT, bg.SHADOW, bg.LEVELS = 1, 2, 3, 4, 5, 6, 7
bg.CALENDAR, bg.ROLLING, bg.TOTAL, bg.HELD = 1, 2, 3, 4
bg.DAY_MS = 86400000

-- In line, because it is done for every limit of every plan; NaN fails, other types raise.
function bg.demand_claim(claim)
  local most, unit, kind, term, limit = bg.MOST, claim[2], claim[3], claim[4], claim[5]
  local sound = unit >= 1 and unit <= 6 and unit % 1 == 0 and kind >= 1 and kind <= 4 and kind % 1 == 0
  sound = sound and term >= 0 and term <= MOST_MS and term % 1 == 0
  sound = sound and limit >= 0 and limit <= most and limit % 1 == 0
  sound = sound and (kind ~= bg.ROLLING or (term > 0 and term % bg.SLOTS == 0))
  sound = sound and claim[1] >= '' and claim[6] >= '' -- texts
  if claim[#claim] == true then -- the last level is the limit itself
    claim[#claim] = limit
  end
  for number = 7, #claim do
    local level = claim[number]
    sound = sound and level >= 0 and level <= most and level % 1 == 0
  end
  if not sound then
    bg.refuse('invalid', 'claim')
  end
end
