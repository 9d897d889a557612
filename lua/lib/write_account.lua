-- A value written with a TTL that stands keeps it; none is ever written without one.
bg.LEAST_TTL_MS = bg.MANUAL and bg.DAY_MS or 1 -- TTLs pass by the server's clock, whatever a manual one says

function bg.write_account(account)
  if not account.exists then
    return redis.call('DEL', account.key)
  end
  local keep_until_ms = account.keep_until_ms
  local value = struct.pack(
    bg.ACCOUNT, account.spent, account.reserved, account.announced, account.announced_ms, keep_until_ms
  )
  if account.slots then
    value = value .. cmsgpack.pack(account.slots)
  end
  if account.stood_until_ms == keep_until_ms then
    redis.call('SET', account.key, value, 'KEEPTTL')
  else
    local ttl_ms = math.max(keep_until_ms - bg.now_ms, bg.LEAST_TTL_MS)
    redis.call('SET', account.key, value, 'PX', bg.digits(ttl_ms))
  end
end
