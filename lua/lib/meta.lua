-- The state of the namespace: whether it is the caller's, and the time, which never runs backwards.
bg.SCHEMA = 1
bg.BEHIND_MS = 60000

-- Nil if the caller may go on; else what to tell it: {'lost', incarnation found, whether its loss was accepted},
-- {'schema', found, of the scripts} or {'clock_kind', whether the namespace's clock is manual}. Sets `now_ms`;
-- `clock_behind`: whether the clock stands too far behind the time it has told; `lost_since_ms`: the time last told
-- where the caller has heard a later one, which means that acknowledged writes are lost, else -1.
function bg.meta_refusal()
  local found = redis.call('HMGET', KEYS[1], 'schema', 'incarnation', 'last_ms', 'loss_accepted', 'clock')
  local schema, incarnation, manual = found[1] and (tonumber(found[1]) or 0), found[2], found[5] == 'manual'
  if bg.asked[1] ~= bg.SCHEMA or (schema and schema ~= bg.SCHEMA) then
    return { 'schema', schema or 0, bg.SCHEMA }
  elseif not incarnation or incarnation ~= bg.asked[2] then
    return { 'lost', incarnation or '', incarnation and found[4] == incarnation or false }
  elseif manual ~= bg.MANUAL then
    return { 'clock_kind', manual }
  end
  local last_ms, told_ms = tonumber(string.match(found[3] or '0', '^%d+$')), bg.clock_ms()
  if not (bg.is_time(last_ms) and bg.is_time(told_ms)) then
    error(KEYS[1] .. ' tells no time: somebody else has written it')
  end
  bg.now_ms, bg.clock_behind = math.max(told_ms, last_ms), last_ms - told_ms > bg.BEHIND_MS
  bg.lost_since_ms = last_ms < bg.asked[4] and last_ms or -1
  return nil
end
