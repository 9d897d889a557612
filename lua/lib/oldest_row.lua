-- When the oldest row of an outbox was written; the end of time where there is none.
bg.SETTLED_MS = 6 -- see lib/rows.lua

function bg.oldest_row_ms(key)
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  local ok, row = pcall(cmsgpack.unpack, oldest and oldest[2][2])
  return ok and bg.is_amount(row[bg.SETTLED_MS]) and row[bg.SETTLED_MS] or oldest and 0 or math.huge
end
