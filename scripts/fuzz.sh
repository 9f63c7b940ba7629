#!/usr/bin/env bash
# Feeds what reads the bytes of others with inputs made from those in tests/fuzz/corpus. Without SECONDS it is a short run,
# the same every time. With SECONDS each target runs so long, and goes on from what it has found before.
# An input that fails is kept as build/fuzz/failed-TARGET-…; build/fuzz/tests/fuzz/fuzz_TARGET FILE shows it again.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage='usage: scripts/fuzz.sh [SECONDS]     SECONDS for each target'
seconds=
case $#:${1:-} in
  0:) ;;
  *:-h | *:--help) echo "$usage" && exit ;;
  1:0* | *[!0-9:]* | [!1]:*) die "$usage" ;;
  *) seconds=$1 ;;
esac

need_build_packages
need_packages clang-14 libclang-rt-14-dev
cd "$root"
step configure-fuzz 'Configuring the fuzz targets' cmake --preset fuzz
step build-fuzz 'Building the fuzz targets' cmake --build --preset fuzz

# fuzz TARGET RUNS runs a target on so many inputs, or for the time that was asked for.
fuzz() {
  local found=$root/build/fuzz/found/$1 command
  command=("build/fuzz/tests/fuzz/fuzz_$1" -max_len=4096 -timeout=60 -artifact_prefix="$root/build/fuzz/failed-$1-")
  if [ -n "$seconds" ]; then
    command+=(-max_total_time="$seconds")
  else
    command+=(-seed=1 -runs="$2" -reload=0)
    # libFuzzer's choices depend on addresses, too.
    if setarch -R true 2>/dev/null; then command=(setarch -R "${command[@]}"); fi
    rm -rf "$found"
  fi
  mkdir -p "$found"
  step "fuzz-$1" "Fuzzing: $1" "${command[@]}" "$found" "tests/fuzz/corpus/$1"
  grep DONE "build/logs/fuzz-$1.log"
}

fuzz validate 30000
fuzz multipart 40000
fuzz http 200000
fuzz url 200000
fuzz xml 100000
fuzz table 100000
