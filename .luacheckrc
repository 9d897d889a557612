-- What Redis gives its scripts beside Lua 5.1, and what it takes from it.
std = "lua51"
read_globals = { "redis", "cmsgpack", "cjson", "struct", "bit", "KEYS", "ARGV" }
not_globals = {
  "arg", "collectgarbage", "debug", "dofile", "getfenv", "io", "loadfile", "module", "newproxy", "os", "package", "print",
  "require", "setfenv",
}
max_line_length = 120
