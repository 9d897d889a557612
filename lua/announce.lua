-- Marks an account as announced up to a level.
-- operation {verb, digest, kind, term_ms, level}
-- returns {word}; word is yes for exactly one asker, else no
-- never makes an account
local function announce(op)
  local digest, kind, term_ms, level = op[2], op[3], op[4], op[5]
  demand(type(digest) == 'string' and is_amount(kind) and is_amount(term_ms) and is_amount(level), 'level')
  local account = account_at(PREFIX .. 'a:' .. digest)
  if not account.exists or announced_level(kind, term_ms, account) >= level then
    return { 'no' }
  end
  -- Past this line it must succeed.
  account.announced, account.announced_ms = level, now_ms
  change_account(account)
  return { 'yes' }
end
