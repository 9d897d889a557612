# Sourced by `scripts/check`, after venv.sh and system.sh. Checks the Lua scripts as Redis gets them, and leaves them in
# .venv/lua, where the lines that luacheck names can be looked up.

check_lua() {
  ensure_program luacheck lua-check
  rm -rf "$venv/lua" && mkdir "$venv/lua"
  "$venv/bin/python" "$root/scripts/lib/compose_lua.py" "$venv/lua"
  (cd "$venv/lua" && luacheck --config "$root/.luacheckrc" --no-color --quiet .)
}
