-- Names of shadow budgets, each once.

-- From a map of names to their places.
function bg.in_order(places)
  local names = {}
  for name in pairs(places) do
    names[#names + 1] = name
  end
  table.sort(names, function(one, other) return places[one] < places[other] end)
  return names
end

function bg.joined(names, more)
  local places, count = {}, 0
  for _, list in ipairs({ names, more }) do
    for _, name in ipairs(list) do
      count = count + 1
      places[name] = places[name] or count
    end
  end
  return bg.in_order(places)
end

-- Whether reservations stand whose lease has passed: sweeping them may make room.
function bg.sweep_due()
  if bg.due_seen == nil then
    bg.due_seen = #redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', bg.digits(bg.now_ms), 'LIMIT', 0, 1) > 0
  end
  return bg.due_seen
end
