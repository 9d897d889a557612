-- A plan as the client packs it: {charges on expiry, content, claim, ...}; `content` is the same for the same budgets,
-- `per` values, units and periods in whatever window. Read once in a call of the script, however many share it.
bg.plans = {}

function bg.plan_from(text)
  local plan = bg.plans[text]
  if not plan then
    local fields = cmsgpack.unpack(text)
    plan = { text = text, charges = fields[1] == 1, content = fields[2], counts = {}, keys = {}, digests = {} }
    for number = 1, #fields - 2 do
      local claim = fields[number + 2]
      bg.demand_claim(claim)
      plan[number], plan.counts[claim[bg.UNIT]] = claim, true
      plan.digests[number], plan.keys[number] = claim[bg.DIGEST], bg.PREFIX .. 'a:' .. claim[bg.DIGEST]
    end
    bg.plans[text] = plan
  end
  return plan
end
