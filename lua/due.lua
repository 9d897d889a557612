-- Lists reservations whose lease has passed, the oldest first.
-- KEYS[1] meta, KEYS[2] open
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, most}
-- returns packed {'ok', now_ms, lost_since_ms, ids} or what `meta_refusal` tells
-- never writes but the time
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
--- include lib/tell_time
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
local ids = redis.pcall('ZRANGEBYSCORE', KEYS[2], '-inf', bg.digits(bg.now_ms), 'LIMIT', 0, bg.asked[5])
if ids.err then
  error(KEYS[2] .. ': ' .. ids.err)
end
bg.tell_time({ '' })
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, ids })
