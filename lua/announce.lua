-- Marks an account as announced up to a level.
-- operation {verb, digest, kind, term_ms, level}
-- returns {word}; word is yes for exactly one asker, else no
-- never makes an account
function bg.announce(op)
  local digest, kind, term_ms, level = op[2], op[3], op[4], op[5]
  bg.demand(type(digest) == 'string' and bg.is_amount(level) and bg.is_time(term_ms), 'level')
  bg.demand(kind == bg.CALENDAR or kind == bg.ROLLING or kind == bg.TOTAL or kind == bg.HELD, 'kind')
  local account = bg.account_at(bg.PREFIX .. 'a:' .. digest, kind)
  if not account.exists or bg.announced_level(kind, term_ms, account) >= level then
    return { 'no' }
  end
  -- Past this line it must succeed.
  account.announced, account.announced_ms = level, bg.now_ms
  bg.change_account(account)
  return { 'yes' }
end
