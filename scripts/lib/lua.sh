# Sourced by `scripts/check`, after venv.sh and system.sh. Checks the Lua scripts as Redis gets them.

check_lua() (
  ensure_program luacheck lua-check
  composed=$(mktemp -d)
  trap 'rm -rf "$composed"' EXIT
  "$venv/bin/python" "$root/scripts/lib/compose_lua.py" "$composed"
  cd "$composed"
  luacheck --config "$root/.luacheckrc" --quiet .
)
