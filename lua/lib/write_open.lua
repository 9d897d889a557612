-- Writes which reservations are open. This and the rows come first: their keys might be of another type, and then
-- nothing has been written.
bg.unlisted = { '' }

-- What a sweep found and nobody knows any more is not found again.
function bg.unlist(id)
  bg.unlisted[#bg.unlisted + 1] = id
end

function bg.write_open()
  local resolved, leases, longest_ms = bg.unlisted, {}, 0
  for _, hold in ipairs(bg.changed_holds) do
    if hold.state ~= 'held' then
      resolved[#resolved + 1] = hold.id
    else
      leases[#leases + 1], leases[#leases + 2] = bg.digits(hold.lease_end_ms), hold.id
      longest_ms = math.max(longest_ms, hold.keep_until_ms - bg.now_ms)
    end
  end
  if #resolved > 1 or not bg.time_noted then
    bg.tell_time(resolved)
  end
  if #leases > 0 then
    redis.call('ZADD', KEYS[2], (unpack or table.unpack)(leases))
    if redis.call('PTTL', KEYS[2]) < longest_ms then -- a day more, so that not every hold has to prolong it
      redis.call('PEXPIRE', KEYS[2], bg.digits(longest_ms + bg.DAY_MS))
    end
  end
end
