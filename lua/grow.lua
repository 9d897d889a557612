-- Makes a hold's estimate larger if every budget has room for the new total; else it stands as it was. On rolling
-- periods the whole hold moves to the slot of now.
-- operation {verb, id, plan, to, usage}; limits are those of the plan sent, where it names the same accounts
-- returns {word, admitted_ms, violations, shadows, alerts, sweep_due, words} or {word, admitted_ms} or {word}; word is
--   granted, refused, replayed, finished, unknown, clock or no_memory; words are those of the accounts, where the plan
--   sent has others
-- never makes a hold smaller

-- The plan of a hold with the limits of another; words of its accounts, where the other lacks some; and its keys.
function bg.with_limits(plan, limits)
  local fields, by_key, keys, foreign = { plan.charges and 1 or 0, plan.content }, {}, {}, false
  for number, key in ipairs(limits.keys) do
    by_key[key] = limits[number]
  end
  for number, key in ipairs(plan.keys) do
    fields[#fields + 1] = by_key[key] or plan[number]
    foreign, keys[key] = foreign or not by_key[key], true
  end
  return bg.plan_from(cmsgpack.pack(fields)), foreign and bg.words_of(plan.digests) or bg.NONE, keys
end

-- Copies of a plan's accounts without this hold; empty for one that is missing and may still count, else false.
function bg.accounts_without(hold, plan, found)
  local without = {}
  for number, claim in ipairs(plan) do
    local account, copy = found[number], {}
    for name, value in pairs(account) do
      copy[name] = value
    end
    copy.slots = account.slots and { (unpack or table.unpack)(account.slots) }
    if account.exists then
      bg.shift(claim, copy, hold.slot_ms, hold.lease_end_ms, 0, -hold.estimate[claim[bg.UNIT]])
    end
    without[number] = (account.exists or bg.unended(claim)) and copy
  end
  return without
end

function bg.larger(hold, asked_to)
  local to, is_larger = {}, false
  for unit = 1, bg.CONCURRENT do
    to[unit] = math.max(asked_to[unit], hold.estimate[unit])
    is_larger = is_larger or to[unit] > hold.estimate[unit]
  end
  return is_larger and to
end

function bg.grow(op)
  local hold, asked_to, usage = bg.hold_at(op[2]), bg.demand_amounts(op[4], 'to'), op[5]
  local limits, sent = bg.asked_plan(op[3])
  bg.demand(type(usage) == 'string', 'usage')
  if not hold then
    return { 'unknown' }
  elseif hold.state ~= 'held' then
    return { 'finished', hold.admitted_ms }
  end
  local to = bg.larger(hold, asked_to)
  if not to then
    return { 'replayed', hold.admitted_ms }
  elseif bg.clock_behind or bg.memory_full then
    return { bg.clock_behind and 'clock' or 'no_memory', hold.admitted_ms }
  end
  local plan, words, keys = bg.with_limits(bg.plan_of(hold), limits)
  local found = bg.accounts_of(plan)
  local without = bg.accounts_without(hold, plan, found)
  local violations, shadows = bg.judge_all(plan, without, to)
  if violations then
    return { 'refused', hold.admitted_ms, violations, shadows, bg.NONE, bg.sweep_due(), words }
  end
  bg.describe(limits, sent, bg.accounts_of(limits), keys)
  -- Past this line it must succeed.
  local alerts = bg.hold_all(plan, without, to, hold.lease_end_ms)
  for number, account in ipairs(found) do
    bg.replace(account, without[number])
  end
  hold.plan, hold.estimate, hold.slot_ms, hold.usage = plan.text, to, bg.now_ms, usage
  hold.shadows = bg.joined(hold.shadows, shadows)
  bg.change_hold(hold)
  return { 'granted', hold.admitted_ms, bg.NONE, shadows, alerts, false, words }
end
