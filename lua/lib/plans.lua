-- A plan as the client packs it: {charges on expiry, content, claim, ...}; `content` is the same for the same budgets,
-- `per` values, units and periods in whatever window. Read once in a script, however many calls share it.
local plans = {}

local function plan_from(text)
  local plan = plans[text]
  if not plan then
    local fields = cmsgpack.unpack(text)
    plan = { text = text, charges = fields[1] == 1, content = fields[2] }
    for number = 3, #fields do
      plan[number - 2] = claim_from(fields[number])
    end
    plans[text] = plan
  end
  return plan
end
