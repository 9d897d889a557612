-- What a resolution charges, and on which accounts.

-- What can be spent of it: `concurrent` is only ever held.
local function chargeable(amounts)
  return { amounts[1], amounts[2], amounts[3], amounts[4], amounts[5], 0 }
end

local function standing(claim)
  return account_at(claim.key)
end

-- What is charged above the reservation, in the units that its plan counts; false if nothing is.
local function overage_of(hold, actual)
  local counts, overage, any = {}, { 0, 0, 0, 0, 0, 0 }, false
  for _, claim in ipairs(plan_from(hold.plan)) do
    counts[claim.unit] = true
  end
  for unit = 1, CONCURRENT do
    if counts[unit] and actual[unit] > hold.estimate[unit] then
      overage[unit], any = actual[unit] - hold.estimate[unit], true
    end
  end
  return any and overage
end
