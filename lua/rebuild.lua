-- Sets accounts to absolute amounts, and remembers resolved reservations; with the last of them the claim ends.
-- KEYS[1] meta, KEYS[2] open, KEYS[3] index, then every account and reservation that is set
-- ARGV[1] packed {schema, claim, clock_ms, heard_ms, accounts, reservations, goes on as}; an account as {digest, words,
--   spent, reserved, announced, announced_ms, keep_until_ms, slots (false for none)}, a reservation as {id, packed
--   record, keep_until_ms}; it goes on as false: claimed, '': what never was, or {incarnation, accepts its loss}
-- returns packed {'ok', now_ms, lost_since_ms} or what `meta_refusal` tells
-- never adds to what stands: done twice it is done once
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
--- include lib/claims
--- include lib/accounts
--- include lib/write_account
local function demand(holds)
  if not holds then
    error('a rebuild was sent what is no account, or no reservation')
  end
end

local function account_of(key, sent)
  local digest, words, slots = sent[1], sent[2], sent[8] or nil
  demand(type(digest) == 'string' and type(words) == 'string' and bg.is_time(sent[7]))
  for field = 3, 6 do
    demand(bg.is_amount(sent[field]))
  end
  for at = 1, slots and #slots or 0 do
    demand(bg.is_amount(slots[at]) and #slots % 3 == 0)
  end
  return {
    key = key, exists = true, spent = sent[3], reserved = sent[4], announced = sent[5], announced_ms = sent[6],
    keep_until_ms = sent[7], slots = slots,
  }
end

local accounts, ids, goes_on_as = {}, {}, bg.asked[7]
for number, sent in ipairs(bg.asked[5]) do
  accounts[number] = account_of(KEYS[number + 3], sent)
end
for number, sent in ipairs(bg.asked[6]) do
  demand(type(sent[1]) == 'string' and type(sent[2]) == 'string' and bg.is_time(sent[3]))
  ids[number] = sent[1]
end
-- Past this line it must succeed.
redis.call('ZREM', KEYS[2], '', (unpack or table.unpack)(ids))
for number, account in ipairs(accounts) do
  bg.write_account(account)
  redis.call('HSET', KEYS[3], bg.asked[5][number][1], bg.asked[5][number][2])
end
for number, sent in ipairs(bg.asked[6]) do
  local ttl_ms = math.max(sent[3] - bg.now_ms, bg.LEAST_TTL_MS)
  redis.call('SET', KEYS[number + 3 + #accounts], sent[2], 'PX', bg.digits(ttl_ms))
end
if goes_on_as == '' then
  redis.call('DEL', KEYS[1])
elseif goes_on_as then
  local accepted = goes_on_as[2] and goes_on_as[1] or redis.call('HGET', KEYS[1], 'loss_accepted') or ''
  redis.call('HSET', KEYS[1], 'incarnation', goes_on_as[1], 'loss_accepted', accepted, 'last_ms', bg.digits(bg.now_ms))
  redis.call('HDEL', KEYS[1], 'claimed_ms', 'claimed_from')
else
  redis.call('HSET', KEYS[1], 'claimed_ms', bg.digits(bg.clock_ms()))
end
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms })
