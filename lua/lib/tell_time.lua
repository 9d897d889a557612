-- Notes the time that was told, so that it never runs backwards. ZREM comes first: it frees memory, so that Redis lets
-- it pass where memory is full, and whatever else the script writes after it.
function bg.tell_time(ids)
  redis.call('ZREM', KEYS[2], (unpack or table.unpack)(ids))
  redis.call('HSET', KEYS[1], 'last_ms', bg.digits(bg.now_ms))
end
