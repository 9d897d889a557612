-- What stands under a key, as `from` reads it, nil where there is nothing; what it cannot read is broken.
function bg.record_at(key, from, name)
  local value, sound, record = bg.value_at(key), true, nil
  if value then
    sound, record = pcall(from, name, value)
  end
  return sound and record or not sound and bg.refuse('broken', key) or nil
end

-- Lists in a record: of texts, and of amounts or of nothing.
function bg.demand_texts(list)
  for number = 1, #list do
    bg.demand(type(list[number]) == 'string', 'text')
  end
  bg.demand(#list > 0 or next(list) == nil, 'texts')
end

function bg.amounts_or_nothing(list)
  return next(list) == nil and bg.NOTHING or bg.demand_amounts(list, 'amounts')
end
