-- Claims a namespace for whoever rebuilds it, or renews that claim: until it ends nobody else is admitted.
-- KEYS[1] meta
-- ARGV[1] packed {schema, claim, clock_ms, heard_ms}
-- returns packed {'ok', now_ms, lost_since_ms, incarnation before it ('' for none), claim of another that stands in its
--   way ('' for none)} or what `meta_refusal` tells
-- never takes a claim from whoever still renews it
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
--- include lib/claim
local claim = bg.asked[2]
local found = redis.call('HMGET', KEYS[1], 'incarnation', 'claimed_ms', 'claimed_from')
local incarnation, before = found[1] or '', found[1] or ''
bg.asked[2] = incarnation
local refusal = incarnation ~= '' and bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
if bg.is_claim(incarnation) then
  if incarnation ~= claim and not bg.is_stale(found[2]) then
    return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, '', incarnation })
  end
  before = found[3] or ''
end
local kind = bg.MANUAL and 'manual' or 'server'
redis.call('HSET', KEYS[1], 'schema', bg.SCHEMA, 'clock', kind, 'incarnation', claim,
  'claimed_ms', bg.digits(bg.clock_ms()), 'claimed_from', before)
bg.asked[2] = claim
return cmsgpack.pack(bg.meta_refusal() or { 'ok', bg.now_ms, bg.lost_since_ms, before, '' })
