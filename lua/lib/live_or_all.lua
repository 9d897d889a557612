-- What counts now.
local function live_or_all(claim, account)
  if claim.kind == ROLLING then
    return live(claim, account)
  end
  return account.spent, account.reserved
end
