-- Amounts: whole numbers in [0, 2^53 - 1], the most that a Lua number holds exactly.
bg.MOST = 9007199254740991

-- Written so that NaN, infinity, fractions and texts are none.
function bg.is_amount(value)
  return type(value) == 'number' and value >= 0 and value <= bg.MOST and value % 1 == 0
end

-- Instants and spans: some 71,000 years. A sum of three is still an amount.
local MOST_MS = 2251799813685248

function bg.is_time(value)
  return bg.is_amount(value) and value <= MOST_MS
end

-- An amount kept in its range: only an account that was gone and made anew, or shadow budgets, could leave it.
function bg.bounded(amount)
  if amount < 0 then
    return 0
  end
  return amount > bg.MOST and bg.MOST or amount
end

-- As text for Redis: Lua's own would write large ones with an exponent.
function bg.digits(amount)
  return string.format('%d', amount)
end
