-- Says of each cause whether the asker is the first to tell it, and will be the only one for so long.
-- KEYS[1] meta, KEYS[2] open, then one for each cause
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, ttls_ms}
-- returns packed {'ok', now_ms, lost_since_ms, answers} or what `meta_refusal` tells
-- never leaves a cause without a TTL
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
--- include lib/tell_time
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
local answers = {}
bg.tell_time({ '' })
for number, ttl_ms in ipairs(bg.asked[5]) do
  local key = KEYS[number + 2]
  local until_ms = tonumber(redis.call('GET', key) or 0) or 0
  answers[number] = until_ms <= bg.now_ms
  if answers[number] then -- the value decides: TTLs pass by the server's clock, and the time told may stand still
    redis.call('SET', key, bg.digits(bg.now_ms + ttl_ms), 'PX', bg.digits(ttl_ms + bg.BEHIND_MS))
  end
end
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, answers })
