-- Does operations on reservations, in the order asked, each wholly or not at all.
-- KEYS[1] meta, KEYS[2] open, KEYS[3] index, KEYS[4] outbox, then every reservation and account that may be touched
-- ARGV[1] packed {schema, incarnation, clock_ms, outbox_most, outbox_bounded, plans, operations}; a plan as
--   {text, words of its accounts (packed), window_start_ms, window_end_ms}, an operation as the verb's file says
-- returns packed {'ok', now_ms, answers} or what `meta_refusal` tells; of an operation that cannot be done
--   the answer is {'invalid' | 'broken' | 'undeclared' | 'failed', what}; from one that is undeclared on, none is done
-- never reads the labels of a call, a price or a time zone; never leaves an operation half done
local asked = cmsgpack.unpack(ARGV[1])
--- include lib/amounts
--- include lib/bounded
--- include lib/digits
--- include lib/now
--- include lib/meta
local refusal, clock_behind = meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
--- include lib/refuse
--- include lib/stored
--- include lib/accounts
--- include lib/claims
--- include lib/plans
--- include lib/account_at
--- include lib/asked_plans
--- include lib/holds
--- include lib/hold_at
--- include lib/change_hold
--- include lib/slots
--- include lib/shifted_slots
--- include lib/balances
--- include lib/shifted
--- include lib/rolling_retry
--- include lib/judge
--- include lib/judge_all
--- include lib/alerts
--- include lib/hold_all
--- include lib/resolve_all
--- include lib/charges
--- include lib/rows
--- include lib/memory
--- include lib/tell_time
--- include lib/write
--- include lib/write_values
--- include reserve
--- include settle
--- include release
--- include grow
--- include extend
--- include expire
--- include announce
local VERBS = {
  reserve = reserve, settle = settle, release = release, grow = grow, extend = extend, expire = expire,
  announce = announce,
}

read_all()
try_memory(asked[7])
local answers, undeclared = {}, false
for number, op in ipairs(asked[7]) do
  local ok, answer = pcall(function()
    demand(type(op) == 'table' and VERBS[op[1]], 'operation')
    return undeclared and { 'undeclared', '' } or VERBS[op[1]](op)
  end)
  answers[number] = ok and answer or type(answer) == 'table' and answer[1] and answer or { 'failed', tostring(answer) }
  undeclared = undeclared or answers[number][1] == 'undeclared'
end
write_open()
write_rows()
for digest, words in pairs(index_entries) do
  redis.call('HSET', KEYS[3], digest, words)
end
for key, account in pairs(changed_accounts) do
  write_account(key, account)
end
for id, hold in pairs(changed_holds) do
  write_hold(id, hold)
end
return cmsgpack.pack({ 'ok', now_ms, answers })
