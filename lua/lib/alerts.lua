-- Thresholds: each is announced once, by whoever finds that the account's level has passed it.

-- The highest level announced. Accounts without windows forget it after a period (concurrent: a day).
local function announced_level(kind, term_ms, account)
  local memory_ms = kind == ROLLING and term_ms or kind == HELD and DAY_MS
  if memory_ms and now_ms - account.announced_ms >= memory_ms then
    return 0
  end
  return account.announced
end

-- Adds {digest, threshold, limit, level} for each that is due to `alerts`; the account remembers them.
local function add_alerts(alerts, claim, account, level)
  local announced = announced_level(claim[KIND], claim[TERM], account)
  for number = LEVELS, #claim do
    if announced < claim[number] and claim[number] <= level then
      alerts[#alerts + 1] = { claim[DIGEST], claim[number], claim[LIMIT], level }
      account.announced, account.announced_ms = claim[number], now_ms
    end
  end
end
