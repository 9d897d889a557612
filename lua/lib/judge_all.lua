-- Every enforced limit without room, and the names of the shadow budgets without. Asking nothing is not checked.
local function judge_all(plan, amounts, account_of)
  local violations, shadows, named = {}, {}, {}
  for _, claim in ipairs(plan) do
    local amount, account = amounts[claim.unit], account_of(claim.key)
    local violation = amount > 0 and account ~= nil and judge(claim, account, amount)
    if violation and not claim.shadow then
      violations[#violations + 1] = violation
    elseif violation and not named[claim.shadow] then
      named[claim.shadow] = true
      shadows[#shadows + 1] = claim.shadow
    end
  end
  return violations, shadows
end

-- Whether reservations stand whose lease has passed: sweeping them may make room.
local due_seen
local function sweep_due()
  if due_seen == nil then
    due_seen = #redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', digits(now_ms), 'LIMIT', 0, 1) > 0
  end
  return due_seen
end
