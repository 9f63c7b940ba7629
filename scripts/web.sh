#!/usr/bin/env bash
# Builds the dashboard in build/web, from where the build takes it into the program. One that is up to date stays.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

case $#:${1:-} in
  0:) ;;
  *:-h | *:--help) echo 'usage: scripts/web.sh' && exit ;;
  *) die 'usage: scripts/web.sh' ;;
esac

cd "$root/src/web"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then need_packages nodejs npm; fi
command -v npm >/dev/null || die 'Node 18 or newer and npm are needed; without them Penstock is built without its dashboard'

digest() { cat "$@" | sha256sum; }

# is_made NOTE DIGEST: whether what the note stands for was made from just that.
is_made() { [ -e "$1" ] && [ "$(<"$1")" = "$2" ]; }

packages=$(digest package-lock.json)
if ! is_made node_modules/.made-from "$packages"; then
  step npm 'Installing the packages of the dashboard' npm ci --ignore-scripts --no-audit --no-fund
  echo "$packages" >node_modules/.made-from
fi

mapfile -t sources < <(find . -name node_modules -prune -o -type f -print | sort)
page=$(digest "${sources[@]}")
if [ ! -e "$root/build/web/index.html" ] || ! is_made "$root/build/web.made-from" "$page"; then
  step web 'Building the dashboard' npm run build
  echo "$page" >"$root/build/web.made-from"
fi
