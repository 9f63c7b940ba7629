# shellcheck shell=bash
# Sourced by the other scripts: where things lie, how a step is shown, how Debian packages and Python packages come.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/build/venv

# Compiler output is found again from another clone of the repository, too.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# step NAME TEXT COMMAND… runs the command with its output in build/logs/NAME.log, shows the output's last line on a
# terminal, and says how long it took. A failure shows the end of the log and ends the script.
step() {
  local log=$root/build/logs/$1.log text=$2 start=$SECONDS status=0
  shift 2
  mkdir -p "$root/build/logs"
  if [ -t 1 ]; then
    printf '%s\n' "$text"
    "$@" </dev/null 2>&1 | tee "$log" | show_last_line || status=$?
  else
    printf '%s … ' "$text"
    "$@" </dev/null >"$log" 2>&1 || status=$?
  fi
  if [ "$status" -ne 0 ]; then
    printf 'failed\n' && tail -n 40 "$log"
    die "$text: failed. The whole log is in $log"
  fi
  printf 'done in %s s\n' "$((SECONDS - start))"
}

show_last_line() {
  local line width
  width=$(($(tput cols 2>/dev/null || echo 80) - 3))
  while IFS= read -r line; do printf '\r\033[K  %.*s' "$width" "$line"; done
  printf '\r\033[K'
}

# need_packages NAME… installs those Debian packages that are missing.
need_packages() {
  if ! command -v apt-get >/dev/null; then
    printf 'There is no apt-get here. Going on as if these Debian packages, or their like, were installed:\n  %s\n' "$*" >&2
    return
  fi
  local name missing=() sudo=()
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "packages are missing and sudo is too; as root, run: apt-get install ${missing[*]}"
    sudo -v || die "sudo is needed to install packages; or run as root: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  step apt "Installing ${#missing[@]} Debian packages" install_packages
}

install_packages() {
  "${sudo[@]}" apt-get update
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# need_postgresql installs the programs of PostgreSQL, without the server that Debian would make and start with them. It
# is a shell of its own: however that ends, Debian's setting is put back.
need_postgresql() (
  settings=/etc/postgresql-common/createcluster.conf sudo=()
  if ! command -v apt-get >/dev/null || dpkg-query -W -f '${Status}' postgresql-15 2>/dev/null | grep -q 'ok installed'; then
    need_packages postgresql-15
    exit
  fi
  need_packages postgresql-common
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  saved=$(<"$settings")
  trap '"${sudo[@]}" tee "$settings" <<<"$saved" >/dev/null' EXIT
  "${sudo[@]}" pg_conftool "$settings" set create_main_cluster off
  need_packages postgresql-15
)

need_build_packages() {
  # Boost is named by version: Debian's plain libboost-dev is 1.74 and cannot stand beside it.
  need_packages ca-certificates g++ cmake ninja-build ccache pkg-config libboost1.81-dev libboost-json1.81-dev \
    libsimdjson-dev libsqlite3-dev libpq-dev libzstd-dev libssl-dev libxxhash-dev libfmt-dev libtomlplusplus-dev \
    libcli11-dev libcsv-dev libgtest-dev
}

# Debian's own Python takes no packages from pip, so what we need from there goes through an environment under build/.
need_venv() {
  [ ! -x "$venv/bin/pip" ] || return 0
  need_packages ca-certificates python3-venv
  rm -rf "$venv"
  step venv 'Making a Python environment' python3 -m venv "$venv"
}

# download REQUIREMENTS FOLDER OPTION… brings the one pinned file that REQUIREMENTS names, and checks its hash.
download() {
  local requirements=$1 folder=$2
  shift 2
  need_venv
  step download "Downloading $(grep -o '^[^ #]*==[^ ]*' "$requirements")" \
    "$venv/bin/pip" download --no-deps --require-hashes -r "$requirements" -d "$folder" "$@"
}
