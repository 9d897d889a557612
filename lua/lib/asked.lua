-- The plan of an operation, as sent: {text, instants from and until which its windows stand (-1: no end), words of its
-- accounts (packed), '' where the client thinks that the index has them}.
local asked_plans, index_entries = {}, {}

local function asked_plan(number)
  local sent = asked[6][number]
  local plan = asked_plans[number]
  if not plan then
    demand(type(sent) == 'table' and type(sent[1]) == 'string' and type(sent[4]) == 'string', 'plan')
    demand(type(sent[2]) == 'number' and type(sent[3]) == 'number', 'window')
    plan = plan_from(sent[1])
    asked_plans[number] = plan
  end
  return plan, sent
end

-- Whether an account that is missing may still count: its window has not ended, or not a day ago.
local function unended(claim)
  return claim[KIND] ~= CALENDAR or now_ms < claim[TERM] + DAY_MS
end
