-- Charges what a call really used and writes its ledger row. No limit and no full memory can refuse it.
-- operation {verb, id, plan, actual, usage, info, status, estimate, admitted_ms, replay_keep_ms, tried_since_ms,
--   latency_ms, error_type, price_source}; status is settled, assumed (a guess), cancelled or error; info is '' where
--   the client thinks that the id is known
-- returns {word, alerts, overdrawn, overage, words} or {word}; word is settled, late, uncounted, replayed, conflict or
--   finished; words are those of the accounts, where the reservation has others than the plan sent
-- never charges twice, and never an account of a window that has ended a day ago
bg.FORGOTTEN_REVISIONS = 4 -- an id may have had so many rows before it was forgotten; the truth outranks them
local STATUS = { settled = true, assumed = true, cancelled = true, error = true }

function bg.charge(op, hold, found, status, word)
  local plan, actual = bg.plan_of(hold), bg.chargeable(op[4])
  local digests = bg.counted(plan, found)
  local words = plan == bg.asked_plan(op[3]) and bg.NONE or bg.words_of(digests)
  -- Past this line it must succeed.
  local alerts, overdrawn = bg.resolve_all(hold, plan, found, actual)
  local overage = bg.overage_of(hold, plan, actual)
  hold.state, hold.charged = op[7] == 'assumed' and 'assumed' or 'settled', actual
  hold.keep_until_ms, hold.revision = bg.now_ms + op[10], hold.revision + 1
  bg.change_hold(hold)
  bg.add_row(hold, status, digests, op[5], op[12], op[13], op[14])
  return { word, alerts, overdrawn, overage, words }
end

-- State was lost, or the id forgotten: charge it, unless it may have been charged already.
function bg.settle_unknown(op)
  local plan, sent = bg.asked_plan(op[3])
  if op[6] == '' then
    bg.refuse('untold', 'info')
  end
  local lost = {
    id = op[2], state = 'released', admitted_ms = op[9], slot_ms = op[9], lease_end_ms = math.max(op[9], bg.now_ms),
    keep_until_ms = 0, revision = bg.FORGOTTEN_REVISIONS, plan = plan.text, estimate = op[8], charged = bg.NOTHING,
    expired = bg.NOTHING, info = op[6], usage = '', shadows = bg.NONE,
  }
  if bg.now_ms - op[11] >= op[10] then
    local gone = {}
    for number = 1, #plan do
      gone[number] = bg.no_account('')
    end
    bg.charge(op, lost, gone, 'uncounted', 'uncounted')
    return { 'uncounted' }
  end
  local found = bg.accounts_of(plan)
  bg.describe(plan, sent, found)
  for number, claim in ipairs(plan) do
    found[number].exists = found[number].exists or bg.unended(claim)
  end
  return bg.charge(op, lost, found, op[7] == 'assumed' and 'assumed' or 'late', 'late')
end

function bg.settle(op)
  local actual, status = bg.demand_amounts(op[4], 'actual'), op[7]
  bg.demand(STATUS[status] and type(op[5]) == 'string' and type(op[6]) == 'string', 'status')
  bg.demand_amounts(op[8], 'estimate')
  bg.demand(bg.is_time(op[9]) and bg.is_time(op[10]) and bg.is_time(op[11]) and bg.is_amount(op[12]), 'times')
  bg.demand(type(op[13]) == 'string' and type(op[14]) == 'string' and bg.asked_plan(op[3]), 'said')
  local hold, ends_as = bg.hold_at(op[2]), status == 'assumed' and 'assumed' or 'settled'
  if not hold or hold.state == 'tombstone' then
    return bg.settle_unknown(op)
  elseif hold.state == 'settled' and ends_as == 'assumed' then
    return { 'finished' }
  elseif hold.state == ends_as then
    local same = true
    for unit = 1, bg.CONCURRENT - 1 do
      same = same and hold.charged[unit] == actual[unit]
    end
    return { same and 'replayed' or 'conflict' }
  end
  local late = hold.state == 'expired' or hold.state == 'released'
  local written = late and status ~= 'assumed' and 'late' or status
  return bg.charge(op, hold, bg.accounts_of(bg.plan_of(hold)), written, late and 'late' or 'settled')
end
