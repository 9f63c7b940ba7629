#!/usr/bin/env bash
# Installs what the build needs and builds build/PRESET/penstock.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage='usage: scripts/build.sh [PRESET]     PRESET is release (the default), debug, asan or tsan'
preset=${1:-release}
case $#:$preset in
  [01]:release | 1:debug | 1:asan | 1:tsan) ;;
  *:-h | *:--help) echo "$usage" && exit ;;
  *) die "$usage" ;;
esac

need_build_packages
cd "$root"
scripts/web.sh || echo 'Going on without the dashboard: the server says then how to get it.'
step "configure-$preset" "Configuring Penstock ($preset)" cmake --preset "$preset"
step "build-$preset" "Building build/$preset/penstock" cmake --build --preset "$preset" --target penstock
