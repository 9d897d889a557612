-- Does the writes that operations have left in tables.
--- include lib/tell_time
--- include lib/write_open
--- include lib/write_rows
--- include lib/write_account
--- include lib/write_hold
function bg.write_all()
  if #bg.rows > 0 then redis.call('ZREM', KEYS[2], '') end -- passes where memory is full
  bg.write_rows()
  bg.write_open()
  for digest, words in pairs(bg.index_entries) do
    redis.call('HSET', KEYS[3], digest, words)
  end
  for _, account in pairs(bg.accounts) do
    if account.changed then bg.write_account(account) end
  end
  for _, hold in ipairs(bg.changed_holds) do bg.write_hold(hold) end
end
