-- The counts of a slice, packed: {place, calls, place, calls, ...}; by place. None, where somebody else wrote them.
function bg.output_counts(packed)
  local ok, flat = pcall(cmsgpack.unpack, packed)
  local counts = {}
  for number = 1, ok and type(flat) == 'table' and #flat or 0, 2 do
    if not (bg.is_amount(flat[number]) and bg.is_amount(flat[number + 1])) then
      return {}
    end
    counts[flat[number]] = flat[number + 1]
  end
  return counts
end
