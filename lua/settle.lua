-- Charges what a call really used and writes its ledger row. No limit and no full memory can refuse it.
-- operation {verb, id, plan, actual, usage, info, status, estimate, admitted_ms, replay_keep_ms, tried_since_ms,
--   latency_ms, error_type, price_source}; status is settled, assumed (a guess), cancelled or error; info is '' where
--   the client thinks that the id is known
-- returns {word, alerts, overdrawn, overage, words} or {word}; word is settled, late, uncounted, replayed, conflict or
--   finished; words are those of the accounts, where the reservation has others than the plan sent
-- never charges twice, and never an account of a window that has ended a day ago
local FORGOTTEN_REVISIONS = 4 -- an id may have had so many rows before it was forgotten; the truth outranks them
local STATUS = { settled = true, assumed = true, cancelled = true, error = true }

local function charge(op, hold, found, status, word)
  local plan, actual = plan_from(hold.plan), chargeable(op[4])
  local digests = counted(plan, found)
  local words = plan == asked_plan(op[3]) and NONE or words_of(digests)
  -- Past this line it must succeed.
  local alerts, overdrawn = resolve_all(hold, plan, found, actual)
  local overage = overage_of(hold, plan, actual)
  hold.state, hold.charged = op[7] == 'assumed' and 'assumed' or 'settled', actual
  hold.keep_until_ms, hold.revision = now_ms + op[10], hold.revision + 1
  change_hold(hold)
  add_row(hold, status, digests, op[5], op[12], op[13], op[14])
  return { word, alerts, overdrawn, overage, words }
end

-- State was lost, or the id forgotten: charge it, unless it may have been charged already.
local function settle_unknown(op)
  local plan, sent = asked_plan(op[3])
  if op[6] == '' then
    refuse('untold', 'info')
  end
  local lost = {
    id = op[2], state = 'released', admitted_ms = op[9], slot_ms = op[9], lease_end_ms = now_ms, keep_until_ms = 0,
    revision = FORGOTTEN_REVISIONS, plan = plan.text, estimate = op[8], charged = NOTHING, expired = NOTHING,
    info = op[6], usage = '', shadows = NONE,
  }
  if now_ms - op[11] >= op[10] then
    local gone = {}
    for number = 1, #plan do
      gone[number] = no_account('')
    end
    charge(op, lost, gone, 'uncounted', 'uncounted')
    return { 'uncounted' }
  end
  local found = accounts_of(plan)
  describe(plan, sent, found)
  for number, claim in ipairs(plan) do
    found[number].exists = found[number].exists or unended(claim)
  end
  return charge(op, lost, found, op[7] == 'assumed' and 'assumed' or 'late', 'late')
end

local function settle(op)
  local actual, status = demand_amounts(op[4], 'actual'), op[7]
  demand(STATUS[status] and type(op[5]) == 'string' and type(op[6]) == 'string', 'status')
  demand_amounts(op[8], 'estimate')
  demand(is_amount(op[9]) and is_amount(op[10]) and is_amount(op[11]) and is_amount(op[12]), 'times')
  demand(type(op[13]) == 'string' and type(op[14]) == 'string' and asked_plan(op[3]), 'said')
  local hold, ends_as = hold_at(op[2]), status == 'assumed' and 'assumed' or 'settled'
  if not hold or hold.state == 'tombstone' then
    return settle_unknown(op)
  elseif hold.state == 'settled' and ends_as == 'assumed' then
    return { 'finished' }
  elseif hold.state == ends_as then
    local same = true
    for unit = 1, CONCURRENT - 1 do
      same = same and hold.charged[unit] == actual[unit]
    end
    return { same and 'replayed' or 'conflict' }
  end
  local late = hold.state == 'expired' or hold.state == 'released'
  local written = late and status ~= 'assumed' and 'late' or status
  return charge(op, hold, accounts_of(plan_from(hold.plan)), written, late and 'late' or 'settled')
end
