-- For the scripts as Redis gets them (`scripts/check` composes them): what Redis gives them beside Lua 5.1, and what it
-- takes from it. `table.unpack` is asked for where Lua is newer.
std = "lua51"
read_globals = { "redis", "cmsgpack", "cjson", "struct", "bit", "KEYS", "ARGV", table = { fields = { "unpack" } } }
not_globals = {
  "arg", "collectgarbage", "debug", "dofile", "getfenv", "io", "loadfile", "module", "newproxy", "os", "package", "print",
  "require", "setfenv",
}
max_line_length = 120

-- What an include brings and the script does not ask for.
files["prune*.lua"] = { ignore = { "211/CONCURRENT" } }
