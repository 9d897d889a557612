-- Forgets accounts that have outlived their time, and their words in the index.
-- KEYS[1] meta, KEYS[2] index, then accounts
-- ARGV[1] packed {schema, incarnation, clock_ms, digests, in the order of the accounts}
-- returns packed {'ok', now_ms, how many are forgotten} or what `meta_refusal` tells
-- never forgets an account that counts or holds something, nor one that it cannot read
local asked = cmsgpack.unpack(ARGV[1])
--- include lib/amounts
--- include lib/now
--- include lib/meta
local refusal = meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
local forgotten = 0
for number, digest in ipairs(asked[4]) do
  local key = KEYS[number + 2]
  local value = redis.call('EXISTS', key) == 1 and redis.pcall('GET', key)
  local ok, fields = pcall(cmsgpack.unpack, value)
  local old = ok and type(fields) == 'table' and is_amount(fields[5]) and fields[5] <= now_ms and fields[2] == 0
  if value == false or old then
    redis.call('DEL', key)
    redis.call('HDEL', KEYS[2], digest)
    forgotten = forgotten + 1
  end
end
return cmsgpack.pack({ 'ok', now_ms, forgotten })
