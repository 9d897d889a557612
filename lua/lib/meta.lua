-- The state of the namespace: whether it is the caller's, and the time, which never runs backwards.
local SCHEMA = 1
local BEHIND_MS = 60000
local now_ms

-- Nil if the caller may go on, and whether the clock stands too far behind the time it has told; else what to tell it:
-- {'lost', incarnation found, whether its loss was accepted}, {'schema', found, of the scripts} or {'clock_kind',
-- whether the namespace's clock is manual}.
local function meta_refusal()
  local found = redis.call('HMGET', KEYS[1], 'schema', 'incarnation', 'last_ms', 'loss_accepted', 'clock')
  local schema, incarnation, manual = tonumber(found[1] or ''), found[2], found[5] == 'manual'
  if asked[1] ~= SCHEMA or (schema and schema ~= SCHEMA) then
    return { 'schema', schema or 0, SCHEMA }
  elseif not incarnation or incarnation ~= asked[2] then
    return { 'lost', incarnation or '', incarnation and found[4] == incarnation or false }
  elseif manual ~= MANUAL then
    return { 'clock_kind', manual }
  end
  local last_ms, told_ms = tonumber(found[3] or '0'), clock_ms()
  now_ms = math.max(told_ms, last_ms)
  return nil, last_ms - told_ms > BEHIND_MS
end
