# Sourced by the scripts beside this folder. Makes sure of programs that no Python package brings.

# ensure_program NAME PACKAGE: NAME is on PATH, or is installed from Debian's PACKAGE where that can be done (as root,
# with apt), or this says what to install and ends with 1.
ensure_program() {
  local name=$1 package=$2
  if ! command -v "$name" >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing $name (the package $package)" >&2
    install_package "$package" || true
  fi
  if ! command -v "$name" >/dev/null; then
    echo "$name is needed and is not on PATH. Install it (Debian and Ubuntu: sudo apt-get install $package;" \
      "elsewhere the package that brings $name), then run this again." >&2
    exit 1
  fi
}

# Installs a package, and keeps what it brings from being started as a system's service.
install_package() (
  local policy=/usr/sbin/policy-rc.d
  export DEBIAN_FRONTEND=noninteractive
  if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
  fi
  # A fresh machine has no lists yet, and old lists name versions that are gone.
  apt_install "$1" || { apt-get update -qq >&2 && apt_install "$1"; }
)

apt_install() {
  apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$1" >&2
}
