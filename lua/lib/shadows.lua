-- Names of shadow budgets, each once.

-- From a map of names to their places.
local function in_order(places)
  local names = {}
  for name in pairs(places or NONE) do
    names[#names + 1] = name
  end
  table.sort(names, function(one, other) return places[one] < places[other] end)
  return names
end

local function joined(names, more)
  local places, count = {}, 0
  for _, list in ipairs({ names, more }) do
    for _, name in ipairs(list) do
      count = count + 1
      places[name] = places[name] or count
    end
  end
  return in_order(places)
end
