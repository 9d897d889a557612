-- An amount kept in its range: only an account that was gone and made anew, or shadow budgets, could leave it.
local function bounded(amount)
  return math.max(0, math.min(amount, MOST))
end
