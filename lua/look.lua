-- Tells what a namespace says of itself, to whomever, and which of these commands the caller's user may run.
-- KEYS[1] meta
-- ARGV[1] packed {commands (each a list of its words)}
-- returns packed {'ok', its fields (schema and so on; false where there is none), the first words of those commands
--   (none where Redis cannot tell, before 7)}
-- never runs one, and never writes
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
local found = redis.call('HMGET', KEYS[1], 'schema', 'incarnation', 'last_ms', 'clock')
local permitted = {}
for _, words in ipairs(redis.acl_check_cmd and bg.asked[1] or {}) do
  if redis.acl_check_cmd((unpack or table.unpack)(words)) then
    permitted[#permitted + 1] = words[1]
  end
end
return cmsgpack.pack({ 'ok', found, permitted })
