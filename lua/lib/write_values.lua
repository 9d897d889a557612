-- Accounts and reservations. A value written with a TTL that stands keeps it; none is ever written without one.
local HELD_KEEP_MS = 30 * DAY_MS
local LEAST_TTL_MS = MANUAL and DAY_MS or 1 -- TTLs pass by the server's clock, whatever a manual one says

local function write_account(key, account)
  local before = accounts_before[key]
  local value = cmsgpack.pack({
    account.spent, account.reserved, account.announced, account.announced_ms, account.keep_until_ms, account.slots,
  })
  if before and before.keep_until_ms == account.keep_until_ms and (before.reserved > 0) == (account.reserved > 0) then
    redis.call('SET', key, value, 'KEEPTTL')
  else -- what is held there must not be forgotten before the reservation is
    local ttl_ms = math.max(account.keep_until_ms - now_ms, LEAST_TTL_MS) + (account.reserved > 0 and HELD_KEEP_MS or 0)
    redis.call('SET', key, value, 'PX', digits(ttl_ms))
  end
end

-- A settled one is final: of it only what tells a repeat from a conflict is kept.
local function write_hold(id, hold)
  local final = hold.state == 'settled'
  local value = cmsgpack.pack({
    hold.state, hold.admitted_ms, final and 0 or hold.slot_ms, final and 0 or hold.lease_end_ms, hold.keep_until_ms,
    final and 0 or hold.revision, final and '' or hold.plan, final and {} or hold.estimate, hold.charged,
    final and {} or hold.expired, final and '' or hold.info, final and '' or hold.usage, hold.shadows,
  })
  local ttl_ms = math.max(hold.keep_until_ms - now_ms, LEAST_TTL_MS)
  redis.call('SET', PREFIX .. 'h:' .. id, value, 'PX', digits(ttl_ms))
end
