-- Charges what a call really used and writes its ledger row. No limit and no full memory can refuse it.
-- operation {verb, id, plan, actual, usage, info, status, estimate, admitted_ms, replay_keep_ms, tried_since_ms,
--   latency_ms, error_type, price_source}; status is settled, assumed (a guess), cancelled or error
-- returns {word, alerts, overdrawn, overage, words}; word is settled, late, uncounted, replayed, conflict or finished;
--   words are those of the accounts, where the reservation has others than the plan sent
-- never charges twice, and never an account of a window that has ended a day ago
local STATUS = { settled = true, assumed = true, cancelled = true, error = true }

local function charge(op, hold, said, status, word, account_of)
  local actual = chargeable(op[4])
  local resolved, gone, alerts, overdrawn = resolve_all(hold, actual, account_of)
  local settled = with(hold, {
    state = op[7] == 'assumed' and 'assumed' or 'settled', charged = actual,
    keep_until_ms = now_ms + op[10], revision = hold.revision + 1,
  })
  local wanted, plan = asked_plan(op[3]), plan_from(hold.plan)
  local whole = next(gone) == nil and wanted.plan == plan
  local words = whole and wanted.described or counted(plan, gone)
  local overage = overage_of(hold, actual)
  -- Past this line it must succeed.
  change_accounts(resolved)
  change_hold(op[2], settled)
  add_row(op[2], settled, status, words, said)
  return { word, alerts, overdrawn, overage, not whole and words or {} }
end

-- State was lost, or the id forgotten: charge it, unless it may have been charged already.
local function settle_unknown(op, wanted, said)
  local lost = {
    state = 'released', admitted_ms = op[9], slot_ms = op[9], lease_end_ms = now_ms, keep_until_ms = 0, revision = 0,
    plan = wanted.plan.text, estimate = op[8], charged = NOTHING, expired = NOTHING, info = op[6], usage = '',
    shadows = {},
  }
  if now_ms - op[11] >= op[10] then
    charge(op, lost, said, 'uncounted', 'uncounted', function() return false end)
    return { 'uncounted' }
  end
  local created = {}
  for _, claim in ipairs(wanted.plan) do
    created[claim.key] = not account_at(claim.key) and unended(claim) or nil
  end
  describe(wanted, created)
  return charge(op, lost, said, op[7] == 'assumed' and 'assumed' or 'late', 'late', function(claim)
    return created[claim.key] and EMPTY or account_at(claim.key)
  end)
end

local function settle(op)
  local wanted, actual, status = asked_plan(op[3]), demand_amounts(op[4], 'actual'), op[7]
  local said = { usage = op[5], latency_ms = op[12], error_type = op[13], price_source = op[14] }
  demand(STATUS[status] and type(op[5]) == 'string' and type(op[6]) == 'string', 'status')
  demand_amounts(op[8], 'estimate')
  demand(is_amount(op[9]) and is_amount(op[10]) and is_amount(op[11]) and is_amount(op[12]), 'times')
  local hold, ends_as = hold_at(op[2]), status == 'assumed' and 'assumed' or 'settled'
  if not hold or hold.state == 'tombstone' then
    return settle_unknown(op, wanted, said)
  elseif hold.state == 'settled' and ends_as == 'assumed' then
    return { 'finished' }
  elseif hold.state == ends_as then
    local same = true
    for unit = 1, CONCURRENT - 1 do
      same = same and hold.charged[unit] == actual[unit]
    end
    return { same and 'replayed' or 'conflict' }
  end
  demand_declared(plan_from(hold.plan))
  local late = hold.state == 'expired' or hold.state == 'released'
  local written = late and status ~= 'assumed' and 'late' or status
  return charge(op, hold, said, written, late and 'late' or 'settled', standing)
end
