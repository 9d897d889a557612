-- Ledger rows, on their way to the outbox: {id, revision, status, admitted_ms, slot_ms, settled_ms, info, usage,
-- estimate, digests of the accounts that were counted, shadows, latency_ms, error_type, price_source, expired}; false
-- in place of a price source: that of the estimate. The index has the words of the accounts.
bg.rows = {}

-- The digests of a plan's accounts that are not gone: what a row will name.
function bg.counted(plan, found)
  local digests = plan.digests
  for number = 1, #found do
    if not found[number].exists then
      digests = {}
      for at, account in ipairs(found) do
        digests[#digests + 1] = account.exists and plan.digests[at] or nil
      end
      return digests
    end
  end
  return digests
end

function bg.add_row(hold, status, digests, usage, latency_ms, error_type, price_source)
  bg.rows[#bg.rows + 1] = cmsgpack.pack({
    hold.id, hold.revision, status, hold.admitted_ms, hold.slot_ms, bg.now_ms, hold.info, usage, hold.estimate,
    digests, hold.shadows, latency_ms, error_type, price_source, hold.expired,
  })
end
