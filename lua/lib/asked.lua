-- The plan of an operation, as sent: {text, instants from and until which its windows stand (-1: no end), words of its
-- accounts (packed), '' where the client thinks that the index has them}.
bg.asked_plans, bg.index_entries = {}, {}

function bg.asked_plan(number)
  local sent = bg.asked[7][number]
  local plan = bg.asked_plans[number]
  if not plan then
    bg.demand(type(sent) == 'table' and type(sent[1]) == 'string' and type(sent[4]) == 'string', 'plan')
    bg.demand(bg.is_time(sent[2]) and (sent[3] == -1 or bg.is_time(sent[3])), 'window')
    plan = bg.plan_from(sent[1])
    bg.asked_plans[number] = plan
  end
  return plan, sent
end

-- Whether an account that is missing may still count: its window has not ended, or not a day ago.
function bg.unended(claim)
  return claim[bg.KIND] ~= bg.CALENDAR or bg.now_ms < claim[bg.TERM] + bg.DAY_MS
end
