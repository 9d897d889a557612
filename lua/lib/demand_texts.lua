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
