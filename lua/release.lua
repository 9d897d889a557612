-- Returns a hold, or what an expiry charged for it; of an unknown id it leaves a tombstone, so that a reserve that is
-- delayed on its way holds nothing.
-- operation {verb, id, replay_keep_ms}
-- returns {word, alerts}; word is released, tombstone, replayed or finished
-- never takes back what was settled
local function release(op)
  local id, replay_keep_ms = op[2], op[3]
  demand(is_amount(replay_keep_ms), 'times')
  local hold, forgotten_ms = hold_at(id), now_ms + replay_keep_ms
  if not hold then
    change_hold(id, {
      state = 'tombstone', admitted_ms = now_ms, slot_ms = now_ms, lease_end_ms = now_ms,
      keep_until_ms = forgotten_ms, revision = 0, plan = '', estimate = NOTHING, charged = NOTHING,
      expired = NOTHING, info = '', usage = '', shadows = {},
    })
    return { 'tombstone' }
  elseif hold.state == 'released' or hold.state == 'tombstone' then
    return { 'replayed' }
  elseif hold.state == 'settled' or hold.state == 'assumed' then
    return { 'finished' }
  end
  local plan = plan_from(hold.plan)
  demand_declared(plan)
  local returned, gone = resolve_all(hold, NOTHING, standing)
  local released = with(hold, { state = 'released', charged = NOTHING, keep_until_ms = forgotten_ms })
  local words = hold.state == 'expired' and counted(plan, gone)
  -- Past this line it must succeed.
  change_accounts(returned)
  if words then
    released.revision = hold.revision + 1
    add_row(id, released, 'released', words, { usage = '' })
  end
  change_hold(id, released)
  return { 'released' }
end
