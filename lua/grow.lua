-- Makes a hold's estimate larger if every budget has room for the new total; else it stands as it was. On rolling
-- periods the whole hold moves to the slot of now.
-- operation {verb, id, plan, to, usage}; limits are those of the plan sent, where it names the same accounts
-- returns {word, admitted_ms, violations, shadows, alerts, sweep_due, words} or {word, admitted_ms} or {word}; word is
--   granted, refused, replayed, finished, unknown, clock or no_memory; words are those of the accounts, where the plan
--   sent has others
-- never makes a hold smaller

-- The plan of a hold with the limits of another; the words of its accounts, where the other has not all of them; and
-- its keys.
local function with_limits(plan, limits)
  local fields, by_key, keys, foreign = { plan.charges and 1 or 0, plan.content }, {}, {}, false
  for number, key in ipairs(limits.keys) do
    by_key[key] = limits[number]
  end
  for number, key in ipairs(plan.keys) do
    fields[#fields + 1] = by_key[key] or plan[number]
    foreign, keys[key] = foreign or not by_key[key], true
  end
  return plan_from(cmsgpack.pack(fields)), foreign and words_of(plan.digests) or NONE, keys
end

-- Copies of a plan's accounts without this hold; empty for one that is missing and may still count, else false.
local function accounts_without(hold, plan, found)
  local without = {}
  for number, claim in ipairs(plan) do
    local account, copy = found[number], {}
    for name, value in pairs(account) do
      copy[name] = value
    end
    copy.slots = account.slots and { (unpack or table.unpack)(account.slots) }
    if account.exists then
      shift(claim, copy, hold.slot_ms, hold.lease_end_ms, 0, -hold.estimate[claim[UNIT]])
    end
    without[number] = (account.exists or unended(claim)) and copy
  end
  return without
end

local function larger(hold, asked_to)
  local to, is_larger = {}, false
  for unit = 1, CONCURRENT do
    to[unit] = math.max(asked_to[unit], hold.estimate[unit])
    is_larger = is_larger or to[unit] > hold.estimate[unit]
  end
  return is_larger and to
end

local function grow(op)
  local hold, asked_to, usage, limits, sent = hold_at(op[2]), demand_amounts(op[4], 'to'), op[5], asked_plan(op[3])
  demand(type(usage) == 'string', 'usage')
  if not hold then
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { 'finished', hold.admitted_ms }
  end
  local to = larger(hold, asked_to)
  if not to then
    return { 'replayed', hold.admitted_ms }
  elseif clock_behind or memory_full then
    return { clock_behind and 'clock' or 'no_memory', hold.admitted_ms }
  end
  local plan, words, keys = with_limits(plan_from(hold.plan), limits)
  local found = accounts_of(plan)
  local without = accounts_without(hold, plan, found)
  local violations, shadows = judge_all(plan, without, to)
  if violations then
    return { 'refused', hold.admitted_ms, violations, shadows, NONE, sweep_due(), words }
  end
  describe(limits, sent, accounts_of(limits), keys)
  -- Past this line it must succeed.
  local alerts = hold_all(plan, without, to, hold.lease_end_ms)
  for number, account in ipairs(found) do
    replace(account, without[number])
  end
  hold.plan, hold.estimate, hold.slot_ms, hold.usage = plan.text, to, now_ms, usage
  hold.shadows = joined(hold.shadows, shadows)
  change_hold(hold)
  return { 'granted', hold.admitted_ms, NONE, shadows, alerts, false, words }
end
