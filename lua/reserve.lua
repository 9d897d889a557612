-- Holds an estimate on every account of a plan, or says why not.
-- operation {verb, id, plan, estimate, info, usage, lease_ms, replay_keep_ms, tried_since_ms}
-- returns {word, admitted_ms, violations, shadows, alerts, sweep_due, words (none)} or {word}; word is granted,
--   refused, replayed, conflict, finished, voided, too_old, clock, no_memory, outbox_full or stale_window
-- never changes an account unless it grants; asks in the order: the id, its age, the clock, memory, the outbox, the
--   windows, the limits
local AGAIN = { tombstone = 'voided', held = 'replayed' }

local function reserve_again(hold, plan, estimate)
  local word = AGAIN[hold.state] or 'finished'
  if word == 'replayed' then
    local same = plan_from(hold.plan).content == plan.content
    for unit = 1, CONCURRENT do
      same = same and hold.estimate[unit] == estimate[unit]
    end
    word = same and word or 'conflict'
  end
  return { word, hold.admitted_ms, {}, hold.shadows, {}, false, {} }
end

local function reserve(op)
  local id, wanted, estimate = op[2], asked_plan(op[3]), demand_amounts(op[4], 'estimate')
  local info, usage, lease_ms, replay_keep_ms, tried_since_ms = op[5], op[6], op[7], op[8], op[9]
  demand(is_amount(lease_ms) and is_amount(replay_keep_ms) and is_amount(tried_since_ms), 'times')
  demand(type(info) == 'string' and type(usage) == 'string', 'info')
  local hold, plan = hold_at(id), wanted.plan
  if hold then
    return reserve_again(hold, plan, estimate)
  elseif now_ms - tried_since_ms > math.floor(replay_keep_ms / 2) then
    return { 'too_old' }
  elseif clock_behind then
    return { 'clock' }
  elseif memory_full then
    return { 'no_memory' }
  elseif outbox_full() then
    return { 'outbox_full' }
  elseif now_ms < wanted.start_ms or (wanted.end_ms >= 0 and now_ms >= wanted.end_ms) then
    return { 'stale_window' }
  end
  local created = {}
  local function account_of(key)
    local account = account_at(key)
    created[key] = not account or nil
    return account or EMPTY
  end
  local violations, shadows = judge_all(plan, estimate, account_of)
  if #violations > 0 then
    return { 'refused', 0, violations, shadows, {}, sweep_due(), {} }
  end
  local lease_end_ms = now_ms + lease_ms
  local held, alerts = hold_all(plan, estimate, account_of, lease_end_ms)
  -- Past this line it must succeed.
  describe(wanted, created)
  change_accounts(held)
  change_hold(id, {
    state = 'held', admitted_ms = now_ms, slot_ms = now_ms, lease_end_ms = lease_end_ms,
    keep_until_ms = lease_end_ms + HELD_KEEP_MS, revision = 0, plan = plan.text, estimate = estimate,
    charged = NOTHING, expired = NOTHING, info = info, usage = usage, shadows = shadows,
  })
  return { 'granted', now_ms, {}, shadows, alerts, false, {} }
end
