-- Opens a namespace: makes its state where there is none.
-- KEYS[1] meta
-- ARGV[1] packed {schema, incarnation known ('' for none), clock_ms, heard_ms, incarnation to begin with, accepts loss,
--   commands that the scripts run}
-- returns packed {'ok', now_ms, lost_since_ms, incarnation}, {'forbidden', those of the commands that the caller's user
--   may not run} or what `meta_refusal` tells, also where the namespace is being rebuilt
-- never changes a state that stands, but to note that its loss was accepted
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
--- include lib/claim
local forbidden = {}
for _, command in ipairs(redis.acl_check_cmd and bg.asked[7] or {}) do -- Redis before 7 cannot tell
  if not redis.acl_check_cmd(command, KEYS[1]) then
    forbidden[#forbidden + 1] = command
  end
end
if #forbidden > 0 then -- found out later, they would leave a call half recorded
  return cmsgpack.pack({ 'forbidden', forbidden })
end
local found, claimed_ms = (unpack or table.unpack)(redis.call('HMGET', KEYS[1], 'incarnation', 'claimed_ms'))
if found and bg.is_claim(found) then
  if not (bg.asked[6] and bg.is_stale(claimed_ms)) then
    return cmsgpack.pack({ 'lost', found, false })
  end
  redis.call('HDEL', KEYS[1], 'claimed_ms', 'claimed_from') -- who was to rebuild it has died
  found = false
end
if not found and (bg.asked[2] == '' or bg.asked[6]) then
  local kind = bg.MANUAL and 'manual' or 'server'
  redis.call('HSET', KEYS[1], 'schema', bg.SCHEMA, 'incarnation', bg.asked[5], 'clock', kind)
  found = bg.asked[5]
end
if found and bg.asked[6] then
  redis.call('HSET', KEYS[1], 'loss_accepted', found)
end
if bg.asked[2] == '' or bg.asked[6] then
  bg.asked[2] = found
end
local refusal = bg.meta_refusal()
return cmsgpack.pack(refusal or { 'ok', bg.now_ms, bg.lost_since_ms, bg.asked[2] })
