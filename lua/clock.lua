-- Tells the time.
-- KEYS[1] meta
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms}
-- returns packed {'ok', now_ms, lost_since_ms} or what `meta_refusal` tells
-- never writes
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
return cmsgpack.pack(bg.meta_refusal() or { 'ok', bg.now_ms, bg.lost_since_ms })
