-- Past the line from which a verb must succeed: notes that an account is to be written.
function bg.change_account(account)
  account.exists, account.changed = true, true
end

-- It stood only for what was held on it: from the next operation on it does not exist.
function bg.bury(account)
  account.exists, account.spent, account.announced, account.announced_ms = false, 0, 0, 0
  account.keep_until_ms, account.slots, account.live_spent, account.live_reserved = 0, nil, nil, nil
end

-- The same, where it has become what a copy of it is.
function bg.replace(account, copy)
  if copy then
    for name, value in pairs(copy) do
      account[name] = value
    end
    bg.change_account(account)
  end
end
