-- Thresholds: each is announced once, by whoever finds that the account's level has passed it.

-- The highest level announced. Accounts without windows forget it after a period (concurrent: a day).
local function announced_level(kind, term_ms, account)
  local memory_ms = kind == ROLLING and term_ms or kind == HELD and DAY_MS
  if memory_ms and now_ms - account.announced_ms >= memory_ms then
    return 0
  end
  return account.announced
end

-- Adds {digest, threshold, limit, level} for each that is due to `alerts`; the account, which is new, remembers them.
local function add_alerts(alerts, claim, account, level)
  local levels = claim.levels
  if #levels == 0 or level < levels[1] then
    return
  end
  local announced = announced_level(claim.kind, claim.term, account)
  for _, threshold in ipairs(levels) do
    if announced < threshold and threshold <= level then
      alerts[#alerts + 1] = { claim.digest, threshold, claim.limit, level }
      account.announced, account.announced_ms = threshold, now_ms
    end
  end
end
