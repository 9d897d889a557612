-- Opens a namespace: makes its state where there is none.
-- KEYS[1] meta
-- ARGV[1] packed {schema, incarnation known ('' for none), clock_ms, incarnation to begin with, accepts loss}
-- returns packed {'ok', now_ms, incarnation} or what `meta_refusal` tells
-- never changes a state that stands, but to note that its loss was accepted
local asked = cmsgpack.unpack(ARGV[1])
--- include lib/now
--- include lib/meta
local found = redis.call('HGET', KEYS[1], 'incarnation')
if not found and (asked[2] == '' or asked[5]) then
  local kind = MANUAL and 'manual' or 'server'
  redis.call('HSET', KEYS[1], 'schema', SCHEMA, 'incarnation', asked[4], 'clock', kind)
  found = asked[4]
end
if found and asked[5] then
  redis.call('HSET', KEYS[1], 'loss_accepted', found)
end
if asked[2] == '' or asked[5] then
  asked[2] = found
end
local refusal = meta_refusal()
return cmsgpack.pack(refusal or { 'ok', now_ms, asked[2] })
