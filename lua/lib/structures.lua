-- What a structure answered, for whoever is about to write one: one of another type, which somebody else must have
-- written, is broken, and that is told before an operation changes anything.
function bg.demand_answer(answer, key)
  local err = type(answer) == 'table' and answer.err
  if err and string.find(err, 'WRONGTYPE', 1, true) then
    bg.refuse('broken', key)
  elseif err then
    error(err, 0) -- in Redis' own words: the client goes by the first of them
  end
  return answer
end

local index_is_sound = false

function bg.demand_index()
  index_is_sound = index_is_sound or bg.demand_answer(redis.pcall('HMGET', KEYS[3], ''), KEYS[3])
end
