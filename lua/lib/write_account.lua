-- A value written with a TTL that stands keeps it; none is ever written without one.
local HELD_KEEP_MS = 30 * DAY_MS
local LEAST_TTL_MS = MANUAL and DAY_MS or 1 -- TTLs pass by the server's clock, whatever a manual one says

local function write_account(account)
  if not account.exists then
    return redis.call('DEL', account.key)
  end
  local keep_until_ms, held = account.keep_until_ms, account.reserved > 0
  local value = cmsgpack.pack(account.spent, account.reserved, account.announced, account.announced_ms, keep_until_ms)
  if account.slots then
    value = value .. cmsgpack.pack(account.slots)
  end
  if account.stood_until_ms == keep_until_ms and account.stood_held == held then
    redis.call('SET', account.key, value, 'KEEPTTL')
  else -- what is held there must not be forgotten before the reservation is
    local ttl_ms = math.max(keep_until_ms - now_ms, LEAST_TTL_MS) + (held and HELD_KEEP_MS or 0)
    redis.call('SET', account.key, value, 'PX', digits(ttl_ms))
  end
end
