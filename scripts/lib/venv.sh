# Sourced by the scripts beside this folder. Makes .venv in the checkout and installs the project with its development
# tools into it, once for each content of pyproject.toml; later runs only compare a stamp.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
venv=$root/.venv
stamp=$venv/installed

# Prints the first Python that is new enough and can make a virtual environment.
find_python() {
  local candidate
  for candidate in python3.11 python3 python3.12 python3.13 python3.14 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  echo "No Python 3.11 or newer with the venv module was found. Install Python 3.11 (on Debian and Ubuntu:" \
    "the packages python3.11 and python3.11-venv), then run this again." >&2
  return 1
}

# What the installed things depend on: pyproject.toml's content and the folder, since a moved .venv does not work.
wanted_stamp() {
  "$venv/bin/python" - "$root" <<'PYTHON'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
print(hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest(), root)
PYTHON
}

ensure_venv() {
  local python wanted
  if ! "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $python" >&2
    "$python" -m venv --clear "$venv"
  fi
  wanted=$(wanted_stamp)
  if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    return
  fi
  echo "Installing budgetguard and its tools into .venv (a minute, the first time)" >&2
  rm -f "$stamp" # from here to the last line, an interruption leaves no stamp
  "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check --editable "$root[dev]" >&2
  printf '%s\n' "$wanted" >"$stamp.new"
  mv "$stamp.new" "$stamp"
}

# LiteLLM wants the openai of the major version before: it has an environment of its own, which finds all else in .venv.
# It is large, and only its own tests need it: they skip where it cannot be installed.
ensure_litellm() {
  local own=$venv/litellm site
  if [[ -f $own/installed ]]; then
    return
  fi
  echo "Installing LiteLLM into .venv/litellm (half a minute, the first time)" >&2
  rm -rf "$own"
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$venv/bin/python" -m venv --without-pip "$own"
  "$own/bin/python" - "$site" <<'PYTHON'
import pathlib, sys, sysconfig
beside = pathlib.Path(sysconfig.get_path("purelib"), "beside.pth")
beside.write_text(f"import site; site.addsitedir({sys.argv[1]!r})\n")
PYTHON
  # What pip says of other packages is that they need another openai, which they have.
  if "$own/bin/python" -m pip install -qq --no-input --disable-pip-version-check 'litellm>=1.106' 2>"$own/said"; then
    touch "$own/installed"
  else
    cat "$own/said" >&2
    rm -rf "$own"
    echo "LiteLLM could not be installed: its tests will skip." >&2
  fi
}
