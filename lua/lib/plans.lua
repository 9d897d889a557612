-- A plan as the client packs it: {charges on expiry, content, claim, ...}; `content` is the same for the same budgets,
-- `per` values, units and periods in whatever window. Read once in a call of the script, however many share it.
bg.plans = {}

function bg.plan_from(text)
  local plan = bg.plans[text]
  if not plan then
    local fields = cmsgpack.unpack(text)
    bg.demand((fields[1] == 0 or fields[1] == 1) and type(fields[2]) == 'string', 'plan')
    plan = { text = text, charges = fields[1] == 1, content = fields[2], counts = {}, keys = {}, digests = {} }
    for number = 1, #fields - 2 do
      local claim = fields[number + 2]
      bg.demand_claim(claim)
      plan[number], plan.counts[claim[bg.UNIT]] = claim, true
      plan.digests[number], plan.keys[number] = claim[bg.DIGEST], bg.PREFIX .. 'a:' .. claim[bg.DIGEST]
    end
    bg.plans[text] = plan
  end
  return plan
end

-- The words of its accounts, as they were sent beside it, where they were.
function bg.words_sent(plan, sent)
  if sent[4] == '' then bg.refuse('untold', 'words') end
  local words = cmsgpack.unpack(sent[4])
  bg.demand_texts(words)
  bg.demand(#words == #plan, 'words')
  bg.demand_index()
  return words
end
