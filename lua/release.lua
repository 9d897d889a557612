-- Returns a hold, or what an expiry charged for it; of an unknown id it leaves a tombstone, so that a reserve that is
-- delayed on its way holds nothing.
-- operation {verb, id, replay_keep_ms}
-- returns {word}; word is released, tombstone, replayed or finished
-- never takes back what was settled
local function tombstone(id, keep_until_ms)
  return {
    id = id, state = 'tombstone', admitted_ms = now_ms, slot_ms = now_ms, lease_end_ms = now_ms,
    keep_until_ms = keep_until_ms, revision = 0, plan = '', estimate = NOTHING, charged = NOTHING, expired = NOTHING,
    info = '', usage = '', shadows = NONE,
  }
end

local function release(op)
  local id, replay_keep_ms = op[2], op[3]
  demand(is_amount(replay_keep_ms), 'times')
  local hold, forgotten_ms = hold_at(id), now_ms + replay_keep_ms
  if not hold then
    change_hold(tombstone(id, forgotten_ms))
    return { 'tombstone' }
  elseif hold.state == 'released' or hold.state == 'tombstone' then
    return { 'replayed' }
  elseif hold.state == 'settled' or hold.state == 'assumed' then
    return { 'finished' }
  end
  local plan = plan_from(hold.plan)
  local found = accounts_of(plan)
  local digests = hold.state == 'expired' and counted(plan, found)
  -- Past this line it must succeed.
  resolve_all(hold, plan, found, NOTHING)
  hold.state, hold.charged, hold.keep_until_ms = 'released', NOTHING, forgotten_ms
  change_hold(hold)
  if digests then
    hold.revision = hold.revision + 1
    add_row(hold, 'released', digests, '', 0, '', false)
  end
  return { 'released' }
end
