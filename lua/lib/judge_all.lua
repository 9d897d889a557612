-- Every enforced limit without room, and the names of the shadow budgets without, each nil if there is none. Asking
-- nothing is not checked. An account that is false is gone, and judges nothing.
local function judge_all(plan, found, amounts)
  local violations, shadows
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    local amount = amounts[claim.unit]
    if amount > 0 and account then
      local spent, reserved = account.spent, account.reserved
      if claim.kind == ROLLING then
        spent, reserved = live(claim, account)
      end
      local has_room = spent + reserved + amount <= claim.limit -- with NaN it has none
      if not has_room then
        if claim.shadow then
          shadows = shadows or {}
          shadows[claim.shadow] = shadows[claim.shadow] or number
        else
          violations = violations or {}
          violations[#violations + 1] = violation_of(claim, account, amount, spent, reserved)
        end
      end
    end
  end
  return violations, in_order(shadows)
end
