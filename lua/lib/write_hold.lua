-- A settled one is final: of it only what tells a repeat from a conflict is kept.
local function write_hold(hold)
  local value
  if hold.state == 'settled' then
    value = cmsgpack.pack('settled', hold.admitted_ms, 0, 0, hold.keep_until_ms,
      0, '', NONE, hold.charged, NONE, '', '', hold.shadows)
  else
    value = cmsgpack.pack(hold.state, hold.admitted_ms, hold.slot_ms, hold.lease_end_ms, hold.keep_until_ms,
      hold.revision, hold.plan, hold.estimate, hold.charged, hold.expired, hold.info, hold.usage, hold.shadows)
  end
  local ttl_ms = math.max(hold.keep_until_ms - now_ms, LEAST_TTL_MS)
  redis.call('SET', PREFIX .. 'h:' .. hold.id, value, 'PX', digits(ttl_ms))
end
