-- Whether Redis has room for what admits a call: where it has none it refuses the first write of a script, unless that
-- frees memory. So this one is tried first, and what resolves a reservation begins with a ZREM, and passes.
local ADMITS = { reserve = true, grow = true }
local memory_full = false

local function try_memory(ops)
  for _, op in ipairs(ops) do
    if type(op) == 'table' and ADMITS[op[1]] then
      local answer = redis.pcall('HSET', KEYS[1], 'last_ms', digits(now_ms))
      memory_full = type(answer) == 'table' and string.find(answer.err or '', 'OOM', 1, true) ~= nil
      if type(answer) == 'table' and answer.err and not memory_full then
        error(answer.err)
      end
      return
    end
  end
end

local outbox_rows
local function outbox_full()
  outbox_rows = outbox_rows or redis.call('XLEN', KEYS[4])
  return asked[5] and outbox_rows + #rows >= asked[4]
end
