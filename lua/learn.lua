-- Adds to what calls wrote: counts by place, of sets of calls, in the slice of now. `lib/outputs` tells their records.
-- KEYS[1] meta, KEYS[2] outputs, then one for each set, each to be forgotten, and the flush
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, slice_ms, slices kept, flush_kept_ms, most sets, sets (each
--   its digest, words, place, calls, place, calls ...), digests to be forgotten}
-- returns packed {'ok', now_ms, lost_since_ms, digests of sets beyond the most (not all at once)} or what
--   `meta_refusal` tells
-- never forgets one that is not beyond the most, and never leaves a key without a TTL
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
--- include lib/output_counts
--- include lib/outputs
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
local slice_ms, kept, sets, forgotten = bg.asked[5], bg.asked[6], bg.asked[9], bg.asked[10]
local flush, ttl_ms, is_new = KEYS[#KEYS], (kept + 1) * slice_ms, false
local beyond = { '-inf', '+inf', 'LIMIT', bg.asked[8], 64 }
redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '+inf', 'LIMIT', 0, 1) -- raises for what is none, before any write
if redis.call('EXISTS', flush) == 0 and #sets > 0 then
  redis.call('SET', flush, '', 'PX', bg.digits(bg.asked[7]))
  for number, set in ipairs(sets) do
    local key = KEYS[number + 2]
    local found = redis.pcall('GET', key)
    is_new = is_new or not found
    redis.call('SET', key, bg.with_outputs(found, set, math.floor(bg.now_ms / slice_ms), kept), 'PX', bg.digits(ttl_ms))
    redis.call('ZADD', KEYS[2], '-' .. bg.digits(bg.now_ms), set[1])
  end
  if redis.call('PTTL', KEYS[2]) < ttl_ms then
    redis.call('PEXPIRE', KEYS[2], bg.digits(ttl_ms))
  end
end
local old = {}
if is_new or #forgotten > 0 then
  old = redis.call('ZRANGEBYSCORE', KEYS[2], (unpack or table.unpack)(beyond))
end
local is_old, left = {}, {}
for _, digest in ipairs(old) do
  is_old[digest] = true
end
for number, digest in ipairs(forgotten) do
  if is_old[digest] then
    redis.call('DEL', KEYS[2 + #sets + number])
    redis.call('ZREM', KEYS[2], digest)
    is_old[digest] = nil
  end
end
for _, digest in ipairs(old) do
  left[#left + 1] = is_old[digest] and digest or nil
end
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, left })
