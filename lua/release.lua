-- Returns a hold, or what an expiry charged for it; of an unknown id it leaves a tombstone, so that a reserve that is
-- delayed on its way holds nothing.
-- operation {verb, id, replay_keep_ms}
-- returns {word}; word is released, tombstone, replayed or finished
-- never takes back what was settled
function bg.tombstone(id, keep_until_ms)
  return {
    id = id, state = 'tombstone', admitted_ms = bg.now_ms, slot_ms = bg.now_ms, lease_end_ms = bg.now_ms,
    keep_until_ms = keep_until_ms, revision = 0, plan = '', estimate = bg.NOTHING, charged = bg.NOTHING,
    expired = bg.NOTHING, info = '', usage = '', shadows = bg.NONE,
  }
end

function bg.release(op)
  local id, replay_keep_ms = op[2], op[3]
  bg.demand(bg.is_time(replay_keep_ms), 'times')
  local hold, forgotten_ms = bg.hold_at(id), bg.now_ms + replay_keep_ms
  if not hold then
    -- Past this line it must succeed.
    bg.change_hold(bg.tombstone(id, forgotten_ms))
    return { 'tombstone' }
  elseif hold.state == 'released' or hold.state == 'tombstone' then
    return { 'replayed' }
  elseif hold.state == 'settled' or hold.state == 'assumed' then
    return { 'finished' }
  end
  local plan = bg.plan_of(hold)
  local found = bg.accounts_of(plan)
  local digests = hold.state == 'expired' and bg.counted(plan, found)
  -- Past this line it must succeed.
  bg.resolve_all(hold, plan, found, bg.NOTHING)
  hold.state, hold.charged, hold.keep_until_ms = 'released', bg.NOTHING, forgotten_ms
  bg.change_hold(hold)
  if digests then
    hold.revision = hold.revision + 1
    bg.add_row(hold, 'released', digests, '', 0, '', false)
  end
  return { 'released' }
end
