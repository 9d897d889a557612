-- Whether Redis has room for what admits a call: where it has none it refuses the first write of a script, unless that
-- frees memory. So this one is tried first, and what resolves a reservation begins with a ZREM, and passes.
bg.ADMITS = { reserve = true, grow = true }
bg.memory_full = false

function bg.try_memory(ops)
  for _, op in ipairs(ops) do
    if type(op) == 'table' and bg.ADMITS[op[1]] then
      local answer = redis.pcall('HSET', KEYS[1], 'last_ms', bg.digits(bg.now_ms))
      local refused = type(answer) == 'table' and answer.err
      bg.memory_full = refused and string.find(refused, 'OOM', 1, true) ~= nil
      if refused and not bg.memory_full then -- raised by Redis in its own words: the client goes by the first of them
        redis.call('HSET', KEYS[1], 'last_ms', bg.digits(bg.now_ms))
      end
      bg.time_noted = not bg.memory_full
      return
    end
  end
end

-- Whether the outbox has as many rows as it may have.
function bg.outbox_full()
  bg.demand(bg.is_amount(bg.asked[5]), 'outbox_most')
  bg.outbox_rows = bg.outbox_rows or bg.demand_answer(redis.pcall('XLEN', KEYS[4]), KEYS[4])
  return bg.asked[6] and bg.outbox_rows + #bg.rows >= bg.asked[5]
end
