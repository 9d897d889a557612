-- Thresholds: each is announced once, by whoever finds that the account's level has passed it.
local LEVELS = 7 -- where a claim's fields have the first

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
  local levels = claim.fields
  if not levels[LEVELS] or level < levels[LEVELS] then
    return
  end
  local announced = announced_level(claim.kind, claim.term, account)
  for number = LEVELS, #levels do
    if announced < levels[number] and levels[number] <= level then
      alerts[#alerts + 1] = { claim.digest, levels[number], claim.limit, level }
      account.announced, account.announced_ms = levels[number], now_ms
    end
  end
end
