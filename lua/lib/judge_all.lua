-- Every enforced limit without room, nil if there is none; and the names of the shadow budgets without. Asking nothing
-- is not checked. An account that is false is gone, and judges nothing.
function bg.judge_all(plan, found, amounts)
  local violations, shadows
  for number = 1, #plan do
    local claim, account = plan[number], found[number]
    local amount = amounts[claim[2]]
    if amount > 0 and account then
      local spent, reserved = account.spent, account.reserved
      if claim[3] == bg.ROLLING then
        spent, reserved = bg.live(claim, account)
      end
      local has_room = spent + reserved + amount <= claim[5] -- with NaN it has none
      if not has_room and claim[bg.SHADOW] ~= '' then
        shadows = shadows or {}
        shadows[claim[bg.SHADOW]] = shadows[claim[bg.SHADOW]] or number
      elseif not has_room then
        violations = violations or {}
        violations[#violations + 1] = bg.violation_of(claim, account, amount, spent, reserved)
      end
    end
  end
  return violations, shadows and bg.in_order(shadows) or bg.NONE
end
