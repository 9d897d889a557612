-- As text for Redis: Lua's own would write large ones with an exponent.
local function digits(amount)
  return string.format('%.0f', amount)
end
