-- Says of each cause whether the asker is the first to tell it, and will be the only one for so long; by the same id
-- it may ask again.
-- KEYS[1] meta, KEYS[2] open, then one for each cause
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, ttls_ms, ids}
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
  local key, id = KEYS[number + 2], bg.asked[6][number]
  local until_ms, teller = string.match(redis.call('GET', key) or '', '^(%d+) (.*)$')
  local is_over = tonumber(until_ms or 0) <= bg.now_ms
  answers[number] = is_over or teller == id
  if is_over then -- the value decides: TTLs pass by the server's clock, and the time told may stand still
    redis.call('SET', key, bg.digits(bg.now_ms + ttl_ms) .. ' ' .. id, 'PX', bg.digits(ttl_ms + bg.BEHIND_MS))
  end
end
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, answers })
