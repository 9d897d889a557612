-- Ends one operation before anything of it was written; the answer is {word, what}:
-- 'invalid': what was sent cannot be; 'broken': the key that cannot be read; 'undeclared': a key that KEYS lacks;
-- 'untold': a detail that the client has left out.
function bg.refuse(word, what)
  error({ word, what })
end

function bg.demand(holds, what)
  if not holds then
    bg.refuse('invalid', what)
  end
end

-- Of one call, in the order tokens, input_tokens, output_tokens, usd, requests, concurrent.
bg.CONCURRENT = 6

function bg.demand_amounts(list, what)
  bg.demand(type(list) == 'table' and #list == bg.CONCURRENT, what)
  local most = bg.MOST
  for number = 1, bg.CONCURRENT do
    local amount = list[number]
    if not (amount >= 0 and amount <= most and amount % 1 == 0) then
      bg.refuse('invalid', what)
    end
  end
  return list
end
