-- Thresholds: each is announced once, by whoever finds that the account's level has passed it.

-- The highest level announced. Accounts without windows forget it after a period (concurrent: a day).
function bg.announced_level(kind, term_ms, account)
  local memory_ms = kind == bg.ROLLING and term_ms or kind == bg.HELD and bg.DAY_MS
  if memory_ms and bg.now_ms - account.announced_ms >= memory_ms then
    return 0
  end
  return account.announced
end

-- Adds {digest, threshold, limit, level} for each that is due to `alerts`; the account remembers them.
function bg.add_alerts(alerts, claim, account, level)
  local announced = bg.announced_level(claim[bg.KIND], claim[bg.TERM], account)
  for number = bg.LEVELS, #claim do
    if announced < claim[number] and claim[number] <= level then
      alerts[#alerts + 1] = { claim[bg.DIGEST], claim[number], claim[bg.LIMIT], level }
      account.announced, account.announced_ms = claim[number], bg.now_ms
    end
  end
end
