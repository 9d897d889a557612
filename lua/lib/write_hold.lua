-- A settled one is final: of it only what tells a repeat from a conflict is kept.
function bg.write_hold(hold)
  local value
  local charged = hold.charged ~= bg.NOTHING and hold.charged or bg.NONE
  if hold.state == 'settled' then
    value = cmsgpack.pack('settled', hold.admitted_ms, 0, 0, hold.keep_until_ms,
      0, '', bg.NONE, charged, bg.NONE, '', '', hold.shadows)
  else
    local expired = hold.expired ~= bg.NOTHING and hold.expired or bg.NONE
    local lease_ms = math.max(hold.lease_end_ms - hold.admitted_ms, 0)
    value = cmsgpack.pack(hold.state, hold.admitted_ms, hold.slot_ms - hold.admitted_ms, lease_ms,
      hold.state == 'held' and 0 or hold.keep_until_ms, hold.revision, hold.plan, hold.estimate, charged, expired,
      hold.info, hold.usage, hold.shadows)
  end
  local ttl_ms = math.max(hold.keep_until_ms - bg.now_ms, bg.LEAST_TTL_MS)
  redis.call('SET', bg.PREFIX .. 'h:' .. hold.id, value, 'PX', bg.digits(ttl_ms))
end
