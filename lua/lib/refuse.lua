-- Ends one operation before anything of it was written; the answer is {word, what}:
-- 'invalid': what was sent cannot be; 'broken': the key that cannot be read; 'undeclared': a key that KEYS lacks;
-- 'untold': a detail that the client has left out.
local function refuse(word, what)
  error({ word, what })
end

local function demand(holds, what)
  if not holds then
    refuse('invalid', what)
  end
end

-- Of one call, in the order tokens, input_tokens, output_tokens, usd, requests, concurrent.
local CONCURRENT = 6

local function demand_amounts(list, what)
  demand(type(list) == 'table' and #list == CONCURRENT, what)
  for _, amount in ipairs(list) do
    demand(is_amount(amount), what)
  end
  return list
end
