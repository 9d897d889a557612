-- Tells the time.
-- KEYS[1] meta
-- ARGV[1] packed {schema, incarnation, clock_ms}
-- returns packed {'ok', now_ms} or what `meta_refusal` tells
-- never writes
local asked = cmsgpack.unpack(ARGV[1])
--- include lib/now
--- include lib/meta
return cmsgpack.pack(meta_refusal() or { 'ok', now_ms })
