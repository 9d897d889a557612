-- Ledger rows, on their way to the outbox: {id, revision, status, admitted_ms, slot_ms, settled_ms, info, usage,
-- estimate, accounts, shadows, latency_ms, error_type, price_source, expired}. `accounts` are the words of those that
-- were counted, as a list or as the client has packed it; false in place of a price source: that of the estimate.
local rows = {}

-- The words of a plan's accounts that are not gone, as the index has them.
local function counted(plan, found)
  local wanted, words = {}, {}
  for number, claim in ipairs(plan) do
    wanted[#wanted + 1] = found[number].exists and claim.digest or nil
  end
  local known = #wanted > 0 and redis.call('HMGET', KEYS[3], (unpack or table.unpack)(wanted))
  for number, digest in ipairs(wanted) do
    words[#words + 1] = known[number] or index_entries[digest]
  end
  return words
end

local function add_row(hold, status, accounts_text, usage, latency_ms, error_type, price_source)
  rows[#rows + 1] = cmsgpack.pack({
    hold.id, hold.revision, status, hold.admitted_ms, hold.slot_ms, now_ms, hold.info, usage, hold.estimate,
    accounts_text, hold.shadows, latency_ms, error_type, price_source, hold.expired,
  })
end
