-- Whether reservations stand whose lease has passed: sweeping them may make room.
local due_seen

local function sweep_due()
  if due_seen == nil then
    due_seen = #redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', digits(now_ms), 'LIMIT', 0, 1) > 0
  end
  return due_seen
end
