-- The account of a key. One that never was, or has outlived its time and holds nothing, does not exist: it is empty.
function bg.account_at(key, kind)
  local account = bg.accounts[key]
  if not account then
    local value, sound = bg.value_at(key), true
    if value then sound, account = pcall(bg.account_from, key, value) end
    if not sound then bg.refuse('broken', key) end
    if not account or (account.keep_until_ms <= bg.now_ms and account.reserved == 0) then
      account = bg.no_account(key)
    end
    bg.accounts[key] = account
  end
  if kind == bg.ROLLING and account.exists and not account.slots then -- it was cut short
    bg.refuse('broken', key)
  end
  return account
end

-- The accounts of a plan, in its order; read once in a call of the script, however many operations share the plan.
function bg.accounts_of(plan)
  if not plan.accounts then
    local found = {}
    for number, key in ipairs(plan.keys) do
      found[number] = bg.account_at(key, plan[number][bg.KIND])
    end
    plan.accounts = found
  end
  return plan.accounts
end
