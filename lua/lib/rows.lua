-- Ledger rows, on their way to the outbox: {id, revision, status, admitted_ms, slot_ms, settled_ms, info, usage,
-- estimate, accounts, shadows, latency_ms, error_type, price_source, expired}. `accounts` are the words of those that
-- were counted, as a list or as the client has packed it; false in place of a price source: that of the estimate.
local rows = {}

-- The words of a plan's accounts that are not gone, as the index has them.
local function counted(plan, gone)
  local wanted, found = {}, {}
  for _, claim in ipairs(plan) do
    wanted[#wanted + 1] = not gone[claim.digest] and claim.digest or nil
  end
  local words = #wanted > 0 and redis.call('HMGET', KEYS[3], (unpack or table.unpack)(wanted))
  for number, digest in ipairs(wanted) do
    found[#found + 1] = words[number] or index_entries[digest]
  end
  return found
end

local function add_row(id, hold, status, accounts_text, said)
  rows[#rows + 1] = cmsgpack.pack({
    id, hold.revision, status, hold.admitted_ms, hold.slot_ms, now_ms, hold.info, said.usage, hold.estimate,
    accounts_text, hold.shadows, said.latency_ms or 0, said.error_type or '', said.price_source or false, hold.expired,
  })
end
