-- Notes what calls were refused, on its way to the ledger: an entry of the outbox beside the ledger's rows.
-- KEYS[1] meta, KEYS[2] outbox
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, outbox_most, entry}
-- returns packed {'ok', now_ms, lost_since_ms, whether it is noted: not where the outbox is full} or what
--   `meta_refusal` tells
-- never writes where memory is full
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
local noted = redis.call('XLEN', KEYS[2]) < bg.asked[5]
if noted then
  redis.call('XADD', KEYS[2], '*', 'refusals', bg.asked[6])
end
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, noted })
