-- The counts of a slice, packed: {place, calls, place, calls, ...}; by place. None, where somebody else wrote them.
local PLACES = 512

function bg.output_counts(packed)
  local ok, flat = pcall(cmsgpack.unpack, packed)
  local counts = {}
  for number = 1, ok and type(flat) == 'table' and #flat or 0, 2 do
    local place, calls = flat[number], flat[number + 1]
    if not (bg.is_amount(place) and place < PLACES and bg.is_amount(calls)) then
      return {}
    end
    counts[place] = calls
  end
  return counts
end
