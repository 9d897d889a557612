-- Amounts: whole numbers in [0, 2^53 - 1], the most that a Lua number holds exactly.
local MOST = 9007199254740991

-- Written so that NaN, infinity, fractions and texts are none.
local function is_amount(value)
  return type(value) == 'number' and value >= 0 and value <= MOST and value % 1 == 0
end
