-- The words of accounts: what the index says of each, by its digest.

-- Remember what the index will say of the accounts that an operation makes: of `keys`, if given, and of those that are
-- missing and not gone.
function bg.describe(plan, sent, found, keys)
  local words
  for number = 1, #found do
    local account = found[number]
    if not account.exists and bg.unended(plan[number]) and (not keys or keys[account.key]) then
      words = words or bg.words_sent(plan, sent)
      bg.index_entries[plan[number][bg.DIGEST]] = words[number]
    end
  end
end

-- The words of accounts, by their digests, for a client that may not know them: as the index has them, or will.
function bg.words_of(digests)
  local words = {}
  bg.demand_index()
  local known = #digests > 0 and redis.call('HMGET', KEYS[3], (unpack or table.unpack)(digests))
  for number, digest in ipairs(digests) do
    words[#words + 1] = known[number] or bg.index_entries[digest]
  end
  return words
end
