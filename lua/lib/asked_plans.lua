-- The plan of an operation: what `plan_from` reads, the instants from and until which its windows stand (-1: no end),
-- and each account's own words, by digest, for the index.
local asked_plans = {}

local function asked_plan(number)
  local sent = asked[6][number]
  demand(type(sent) == 'table' and type(sent[1]) == 'string', 'plan')
  if not asked_plans[number] then
    local plan = plan_from(sent[1])
    demand_declared(plan)
    demand(type(sent[3]) == 'number' and type(sent[4]) == 'number', 'window')
    asked_plans[number] = { plan = plan, described = sent[2], start_ms = sent[3], end_ms = sent[4] }
  end
  return asked_plans[number]
end

local index_entries = {}

-- Remember what the index will say of the accounts that an operation makes.
local function describe(wanted, created)
  local words = next(created) and cmsgpack.unpack(wanted.described)
  for number, claim in ipairs(wanted.plan) do
    if created[claim.key] then
      index_entries[claim.digest] = words[number]
    end
  end
end
