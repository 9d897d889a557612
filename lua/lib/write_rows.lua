-- Ledger rows to the outbox; where nobody drains it the oldest go.
function bg.write_rows()
  for _, row in ipairs(bg.rows) do
    if bg.asked[6] then
      redis.call('XADD', KEYS[4], '*', 'row', row)
    else
      redis.call('XADD', KEYS[4], 'MAXLEN', '~', bg.digits(bg.asked[5]), '*', 'row', row)
    end
  end
end
