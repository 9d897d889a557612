-- The record of a set, packed: {words, written_ms, slice, counts, slice, counts, ...}, with the counts of a set added,
-- {digest, words, place, calls, ...}, and without slices that are not kept. One of after now is kept, and not more:
-- after a failover clocks may differ a little. What somebody else has written begins anew: only estimates go by it.
function bg.with_outputs(found, set, slice, kept)
  local ok, record = pcall(cmsgpack.unpack, found)
  local now, counts, flat = { set[2], bg.now_ms }, {}, {}
  for number = 3, ok and type(record) == 'table' and #record - 1 or 0, 2 do
    local each, packed = record[number], record[number + 1]
    if each == slice then
      counts = bg.output_counts(packed)
    elseif bg.is_amount(each) and each <= slice + 1 and each > slice - kept and type(packed) == 'string' then
      now[#now + 1], now[#now + 2] = each, packed
    end
  end
  for number = 3, #set, 2 do
    counts[set[number]] = bg.bounded((counts[set[number]] or 0) + set[number + 1])
  end
  for place, calls in pairs(counts) do
    flat[#flat + 1], flat[#flat + 2] = place, calls
  end
  now[#now + 1], now[#now + 2] = slice, cmsgpack.pack(flat)
  return cmsgpack.pack(now)
end
