-- An amount kept in its range: only an account that was gone and made anew, or shadow budgets, could leave it.
local function bounded(amount)
  if amount < 0 then
    return 0
  end
  return amount > MOST and MOST or amount
end
