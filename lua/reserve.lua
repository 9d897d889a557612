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
  return { word, hold.admitted_ms, NONE, hold.shadows, NONE, false, NONE }
end

local function reserve(op)
  local id, estimate, info, usage = op[2], demand_amounts(op[4], 'estimate'), op[5], op[6]
  local plan, sent = asked_plan(op[3])
  local lease_ms, replay_keep_ms, tried_since_ms = op[7], op[8], op[9]
  demand(is_amount(lease_ms) and is_amount(replay_keep_ms) and is_amount(tried_since_ms), 'times')
  demand(type(info) == 'string' and type(usage) == 'string', 'info')
  local hold = hold_at(id)
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
  elseif now_ms < sent[2] or (sent[3] >= 0 and now_ms >= sent[3]) then
    return { 'stale_window' }
  end
  local found = accounts_of(plan)
  local violations, shadows = judge_all(plan, found, estimate)
  if violations then
    return { 'refused', 0, violations, shadows, NONE, sweep_due(), NONE }
  end
  describe(plan, sent, found)
  -- Past this line it must succeed.
  local lease_end_ms = now_ms + lease_ms
  local alerts = hold_all(plan, found, estimate, lease_end_ms)
  for number = 1, #found do
    change_account(found[number])
  end
  change_hold({
    id = id, state = 'held', admitted_ms = now_ms, slot_ms = now_ms, lease_end_ms = lease_end_ms,
    keep_until_ms = lease_end_ms + HELD_KEEP_MS, revision = 0, plan = plan.text, estimate = estimate,
    charged = NOTHING, expired = NOTHING, info = info, usage = usage, shadows = shadows,
  })
  return { 'granted', now_ms, NONE, shadows, alerts, false, NONE }
end
