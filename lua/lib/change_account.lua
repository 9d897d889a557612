-- Past the line from which a verb must succeed: notes that an account is to be written.
local function change_account(account)
  account.exists = true
  if not account.changed then
    account.changed = true
    changed_accounts[#changed_accounts + 1] = account
  end
end

-- The same, where it has become what a copy of it is.
local function replace(account, copy)
  if copy then
    copy.changed, copy.exists = account.changed, account.exists
    for name, value in pairs(copy) do
      account[name] = value
    end
    change_account(account)
  end
end
