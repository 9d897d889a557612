-- Does operations on reservations, in the order asked, each wholly or not at all.
-- KEYS[1] meta, KEYS[2] open, KEYS[3] index, KEYS[4] outbox, then every reservation and account that may be touched
-- ARGV[1] packed {schema, incarnation, clock_ms, heard_ms, outbox_most, outbox_bounded, plans, operations}; a plan as
--   `lib/asked.lua` says, an operation as the verb's file says
-- returns packed {'ok', now_ms, lost_since_ms, answers} or what `meta_refusal` tells; of an operation that cannot be
--   done the answer is {'invalid' | 'broken' | 'failed', what}, or {'undeclared' | 'untold', what} where the client has
--   left out keys or details: from there on none is done, and all are asked again in order
-- never reads the labels of a call, a price or a time zone; never leaves an operation half done
local bg = { asked = cmsgpack.unpack(ARGV[1]) } -- all that its parts share
--- include lib/amounts
--- include lib/now
--- include lib/meta
local refusal = bg.meta_refusal()
if refusal then
  return cmsgpack.pack(refusal)
end
--- include lib/refuse
--- include lib/stored
--- include lib/structures
--- include lib/demand_texts
--- include lib/claims
--- include lib/plans
--- include lib/accounts
--- include lib/accounts_of
--- include lib/asked
--- include lib/words
--- include lib/holds
--- include lib/hold_at
--- include lib/slots
--- include lib/live
--- include lib/shift_slot
--- include lib/shift
--- include lib/change_account
--- include lib/judge
--- include lib/shadows
--- include lib/judge_all
--- include lib/alerts
--- include lib/hold_all
--- include lib/resolve_all
--- include lib/overage
--- include lib/rows
--- include lib/memory
--- include lib/write_all
--- include reserve
--- include settle
--- include release
--- include grow
--- include extend
--- include expire
--- include announce
local VERBS = {
  reserve = bg.reserve, settle = bg.settle, release = bg.release, grow = bg.grow, extend = bg.extend,
  expire = bg.expire, announce = bg.announce,
}
local WANTING = { undeclared = true, untold = true }
local function no_verb() bg.refuse('invalid', 'operation') end
local function pass_over() return { 'undeclared', '' } end

bg.read_all()
bg.try_memory(bg.asked[8])
local answers, wanting = {}, false
for number, op in ipairs(bg.asked[8]) do
  local verb = type(op) == 'table' and VERBS[op[1]] or no_verb
  local ok, answer = pcall(wanting and pass_over or verb, op)
  answers[number] = ok and answer or type(answer) == 'table' and answer[1] and answer or { 'failed', tostring(answer) }
  wanting = wanting or WANTING[answers[number][1]]
end
bg.write_all()
return cmsgpack.pack({ 'ok', bg.now_ms, bg.lost_since_ms, answers })
