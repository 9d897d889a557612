-- Makes a hold's estimate larger if every budget has room for the new total; else it stands as it was. On rolling
-- periods the whole hold moves to the slot of now.
-- operation {verb, id, plan, to, usage}; limits are those of the plan sent, where it names the same accounts
-- returns {word, admitted_ms, violations, shadows, alerts, sweep_due, words}; word is granted, refused, replayed,
--   finished, unknown, clock or no_memory; words are those of the accounts, where the plan sent has others
-- never makes a hold smaller
local function with_limits(plan, limits)
  local fields, by_key, foreign = { plan.charges and 1 or 0, plan.content }, {}, false
  for _, claim in ipairs(limits) do
    by_key[claim.key] = claim
  end
  for _, claim in ipairs(plan) do
    fields[#fields + 1] = (by_key[claim.key] or claim).fields
    foreign = foreign or not by_key[claim.key]
  end
  return plan_from(cmsgpack.pack(fields)), foreign and counted(plan, {}) or {}
end

-- The accounts of a plan without this hold, made anew where one is missing that may still count; nil where it may not.
local function accounts_without(hold, plan, created)
  local without = {}
  for _, claim in ipairs(plan) do
    local account = account_at(claim.key)
    if account then
      without[claim.key] = shifted(claim, account, hold.slot_ms, hold.lease_end_ms, 0, -hold.estimate[claim.unit])
    elseif unended(claim) then
      without[claim.key], created[claim.key] = EMPTY, true
    end
  end
  return function(key) return without[key] end
end

local function joined(shadows, more)
  local all, named = {}, {}
  for _, list in ipairs({ shadows, more }) do
    for _, name in ipairs(list) do
      all[#all + 1] = not named[name] and name or nil
      named[name] = true
    end
  end
  return all
end

local function grow(op)
  local id, wanted, asked_to, usage = op[2], asked_plan(op[3]), demand_amounts(op[4], 'to'), op[5]
  demand(type(usage) == 'string', 'usage')
  local hold = hold_at(id)
  if not hold then
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { 'finished', hold.admitted_ms }
  end
  local to, larger = {}, false
  for unit = 1, CONCURRENT do
    to[unit] = math.max(asked_to[unit], hold.estimate[unit])
    larger = larger or to[unit] > hold.estimate[unit]
  end
  if not larger then
    return { 'replayed', hold.admitted_ms }
  elseif clock_behind or memory_full then
    return { clock_behind and 'clock' or 'no_memory', hold.admitted_ms }
  end
  demand_declared(plan_from(hold.plan))
  local plan, words = with_limits(plan_from(hold.plan), wanted.plan)
  local created = {}
  local account_of = accounts_without(hold, plan, created)
  local violations, shadows = judge_all(plan, to, account_of)
  if #violations > 0 then
    return { 'refused', hold.admitted_ms, violations, shadows, {}, sweep_due(), words }
  end
  local held, alerts = hold_all(plan, to, account_of, hold.lease_end_ms)
  local grown = with(hold, {
    plan = plan.text, estimate = to, slot_ms = now_ms, usage = usage, shadows = joined(hold.shadows, shadows),
  })
  -- Past this line it must succeed.
  describe(wanted, created)
  change_accounts(held)
  change_hold(id, grown)
  return { 'granted', hold.admitted_ms, {}, shadows, alerts, false, words }
end
