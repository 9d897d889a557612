-- The structures, by their places in KEYS: one that somebody else has written over is found before anything is written.
bg.OPEN, bg.INDEX, bg.OUTBOX = 2, 3, 4
bg.sound = {}

function bg.is_sound(number)
  if bg.sound[number] == nil then
    local key = KEYS[number]
    local answer
    if number == bg.OPEN then
      answer = redis.pcall('ZRANGEBYSCORE', key, 1, 0)
    elseif number == bg.INDEX then
      answer = redis.pcall('HMGET', key, '')
    else
      answer = redis.pcall('XLEN', key)
      bg.outbox_rows = answer
    end
    local wrong = type(answer) == 'table' and answer.err
    if wrong and not string.find(wrong, 'WRONGTYPE', 1, true) then
      error(wrong, 0) -- in Redis' own words: the client goes by the first of them
    end
    bg.sound[number] = not wrong
  end
  return bg.sound[number]
end

function bg.demand_sound(number)
  if not bg.is_sound(number) then
    bg.refuse('broken', KEYS[number])
  end
end
