-- Marks an account as announced up to a level.
-- operation {verb, digest, kind, term_ms, level}
-- returns {word}; word is yes for exactly one asker, else no
-- never makes an account
local function announce(op)
  local key, kind, term_ms, level = PREFIX .. 'a:' .. op[2], op[3], op[4], op[5]
  demand(is_amount(level), 'level')
  if not declared[key] then
    refuse('undeclared', '')
  end
  local account = account_at(key)
  if not account or announced_level(kind, term_ms, account) >= level then
    return { 'no' }
  end
  local marked = {}
  for name, value in pairs(account) do
    marked[name] = value
  end
  marked.announced, marked.announced_ms = level, now_ms
  -- Past this line it must succeed.
  change_accounts({ [key] = marked })
  return { 'yes' }
end
