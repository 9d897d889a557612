-- The only place that reads the server's clock, in milliseconds.
bg.MANUAL = false

function bg.clock_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
