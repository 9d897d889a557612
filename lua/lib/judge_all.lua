-- Every enforced limit without room, nil if there is none; and the names of the shadow budgets without. Asking nothing
-- is not checked. An account that is false is gone, and judges nothing.
local function judge_all(plan, found, amounts)
  local violations, shadows
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    local amount = amounts[claim[2]]
    if amount > 0 and account then
      local spent, reserved = account.spent, account.reserved
      if claim[3] == ROLLING then
        spent, reserved = live(claim, account)
      end
      local has_room = spent + reserved + amount <= claim[5] -- with NaN it has none
      if not has_room and claim[SHADOW] ~= '' then
        shadows = shadows or {}
        shadows[claim[SHADOW]] = shadows[claim[SHADOW]] or number
      elseif not has_room then
        violations = violations or {}
        violations[#violations + 1] = violation_of(claim, account, amount, spent, reserved)
      end
    end
  end
  return violations, shadows and in_order(shadows) or NONE
end
