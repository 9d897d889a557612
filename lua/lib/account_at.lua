-- The account of a key, false where there is none: it never was, or it has outlived its time and holds nothing.
local function account_at(key)
  local account = accounts[key]
  if account == nil then
    local fields = fields_at(key)
    account = fields and account_from(key, fields) or false
    if account and account.keep_until_ms <= now_ms and account.reserved == 0 then
      account = false
    end
    accounts[key], accounts_before[key] = account, account
  end
  return account
end

-- Keys that a plan needs and the caller did not name would be touched on no known server: the caller asks again.
local function demand_declared(plan)
  for _, claim in ipairs(plan) do
    if not declared[claim.key] then
      refuse('undeclared', plan.text)
    end
  end
end

-- Past this line it must succeed: what a verb has decided.
local function change_accounts(changed)
  for key, account in pairs(changed) do
    accounts[key], changed_accounts[key] = account, account
  end
end
