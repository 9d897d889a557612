-- What a structure answers, asked once in a call of the script. One of another type, which somebody else must have
-- written, is broken: that is told before an operation changes anything.
local told = {}

function bg.ask_structure(command, key, ...)
  if told[key] == nil then
    local answer = redis.pcall(command, key, ...)
    local err = type(answer) == 'table' and answer.err
    if err then
      bg.refuse(string.find(err, 'WRONGTYPE', 1, true) and 'broken' or 'failed', key)
    end
    told[key] = answer
  end
  return told[key]
end
