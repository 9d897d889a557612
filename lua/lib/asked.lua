-- The plan of an operation, as sent: {text, words of its accounts (packed), instants from and until which its windows
-- stand (-1: no end)}.
local function asked_plan(number)
  local sent = asked[6][number]
  demand(type(sent) == 'table' and type(sent[1]) == 'string' and type(sent[2]) == 'string', 'plan')
  demand(type(sent[3]) == 'number' and type(sent[4]) == 'number', 'window')
  return plan_from(sent[1]), sent
end

local index_entries = {}

-- Remember what the index will say of the accounts that an operation makes: of `keys`, if given, and of those that are
-- missing and not gone.
local function describe(plan, sent, found, keys)
  local words
  for number, account in ipairs(found) do
    if not account.exists and unended(plan[number]) and (not keys or keys[account.key]) then
      words = words or cmsgpack.unpack(sent[2])
      index_entries[plan[number].digest] = words[number]
    end
  end
end
