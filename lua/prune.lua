-- Forgets accounts that have outlived their time, and their words in the index: those of which a sweep has found so
-- before every ledger row that still waits in the outbox was written.
-- KEYS[1] meta, KEYS[2] index, KEYS[3] outbox, then accounts
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, digests, instants at which each was found dead (0: not yet)}
-- returns packed {'ok', now_ms, lost_since_ms, digests of those that are dead and not forgotten, how many are
--   forgotten} or what `meta_refusal` tells
-- never forgets an account that counts or holds something, nor one that it cannot read
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
--- include lib/accounts
--- include lib/oldest_row
local dead, forgotten, oldest_ms = {}, 0, bg.oldest_row_ms(KEYS[3])
for number, digest in ipairs(bg.asked[5]) do
  local key, found_ms = KEYS[number + 3], bg.asked[6][number]
  local value = redis.call('EXISTS', key) == 1 and redis.pcall('GET', key)
  local ok, _, reserved, _, _, keep_until_ms = pcall(struct.unpack, bg.ACCOUNT, value)
  local old = ok and bg.is_amount(keep_until_ms) and keep_until_ms <= bg.now_ms and reserved == 0
  if (value == false or old) and found_ms > 0 and found_ms < oldest_ms then
    redis.call('DEL', key)
    redis.call('HDEL', KEYS[2], digest)
    forgotten = forgotten + 1
  elseif value == false or old then
    dead[#dead + 1] = digest
  end
end
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, dead, forgotten })
