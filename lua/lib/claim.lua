-- A namespace that is being rebuilt has a claim in the place of an incarnation: whoever else calls is told that its
-- state is lost. One that is not renewed is stale: who made it has died.
bg.CLAIM_MS = 15000

function bg.is_claim(incarnation)
  return string.sub(incarnation, 1, 8) == 'rebuild:'
end

function bg.is_stale(claimed_ms)
  return math.abs(bg.clock_ms() - (tonumber(claimed_ms or 0) or 0)) > bg.CLAIM_MS
end
