-- Holds an estimate on every account of a plan, or says why not.
-- operation {verb, id, plan, estimate, info, usage, lease_ms, replay_keep_ms, tried_since_ms}
-- returns {word, admitted_ms, violations, shadows, alerts, sweep_due, words (none)} or {word}; word is granted,
--   refused, replayed, conflict, finished, voided, too_old, clock, no_memory, outbox_full or stale_window
-- never changes an account unless it grants; asks in the order: the id, its age, the clock, memory, the outbox, the
--   windows, the limits
local AGAIN = { tombstone = 'voided', held = 'replayed' }

function bg.reserve_again(hold, plan, estimate)
  local word = AGAIN[hold.state] or 'finished'
  if word == 'replayed' then
    local same = bg.plan_of(hold).content == plan.content
    for unit = 1, bg.CONCURRENT do
      same = same and hold.estimate[unit] == estimate[unit]
    end
    word = same and word or 'conflict'
  end
  return { word, hold.admitted_ms, bg.NONE, hold.shadows, bg.NONE, false, bg.NONE }
end

function bg.reserve(op)
  local id, estimate, info, usage = op[2], bg.demand_amounts(op[4], 'estimate'), op[5], op[6]
  local plan, sent = bg.asked_plan(op[3])
  local lease_ms, replay_keep_ms, tried_since_ms = op[7], op[8], op[9]
  bg.demand(bg.is_time(lease_ms) and bg.is_time(replay_keep_ms) and bg.is_time(tried_since_ms), 'times')
  bg.demand(type(info) == 'string' and type(usage) == 'string', 'info')
  local hold = bg.hold_at(id)
  if hold then
    return bg.reserve_again(hold, plan, estimate)
  elseif bg.now_ms - tried_since_ms > math.floor(replay_keep_ms / 2) then
    return { 'too_old' }
  elseif bg.clock_behind then
    return { 'clock' }
  elseif bg.memory_full then
    return { 'no_memory' }
  elseif bg.outbox_full() then
    return { 'outbox_full' }
  elseif bg.now_ms < sent[2] or (sent[3] >= 0 and bg.now_ms >= sent[3]) then
    return { 'stale_window' }
  end
  local found = bg.accounts_of(plan)
  local violations, shadows = bg.judge_all(plan, found, estimate)
  if violations then
    return { 'refused', 0, violations, shadows, bg.NONE, bg.sweep_due(), bg.NONE }
  end
  bg.describe(plan, sent, found)
  -- Past this line it must succeed.
  local lease_end_ms = bg.now_ms + lease_ms
  local alerts = bg.hold_all(plan, found, estimate, lease_end_ms)
  bg.change_hold({
    id = id, state = 'held', admitted_ms = bg.now_ms, slot_ms = bg.now_ms, lease_end_ms = lease_end_ms,
    keep_until_ms = lease_end_ms + bg.HELD_KEEP_MS, revision = 0, plan = plan.text, estimate = estimate,
    charged = bg.NOTHING, expired = bg.NOTHING, info = info, usage = usage, shadows = shadows,
  })
  return { 'granted', bg.now_ms, bg.NONE, shadows, alerts, false, bg.NONE }
end
