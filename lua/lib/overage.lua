-- What is charged above a reservation, in the units that its plan counts; false if nothing is.
function bg.overage_of(hold, plan, actual)
  local overage = false
  for unit = 1, bg.CONCURRENT do
    if actual[unit] > hold.estimate[unit] and plan.counts[unit] then
      overage = overage or { 0, 0, 0, 0, 0, 0 }
      overage[unit] = actual[unit] - hold.estimate[unit]
    end
  end
  return overage
end

-- Amounts without others, each by its unit: negative where these are more.
function bg.less(amounts, others)
  return {
    amounts[1] - others[1], amounts[2] - others[2], amounts[3] - others[3], amounts[4] - others[4],
    amounts[5] - others[5], amounts[6] - others[6],
  }
end

-- What can be spent of amounts: `concurrent` is only ever held.
function bg.chargeable(amounts)
  return { amounts[1], amounts[2], amounts[3], amounts[4], amounts[5], 0 }
end
