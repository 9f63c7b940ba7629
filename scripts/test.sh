#!/usr/bin/env bash
# Sets up a fresh machine and runs every test: unit tests, include order, end to end with a real model, fuzzing,
# sanitizers, and the proof that tests of reliability can fail.
# With --quick it leaves out the last two, which build more than the program and its tests, and most of what is shown once
# more on PostgreSQL and S3.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

quick=
case $#:${1:-} in
  0:) ;;
  1:--quick) quick=yes ;;
  *:-h | *:--help) echo 'usage: scripts/test.sh [--quick]' && exit ;;
  *) die 'usage: scripts/test.sh [--quick]' ;;
esac

cd "$root"
outcomes=()
failed=0

# check NAME COMMAND… runs one kind of test and notes how it ended; the others run all the same.
check() {
  local name=$1 start=$SECONDS outcome=passed
  shift
  printf '\n== %s\n' "$name"
  ("$@") || outcome=FAILED
  [ $outcome = passed ] || failed=1
  outcomes+=("$(printf '%-6s  %-40s %4d s' $outcome "$name" $((SECONDS - start)))")
}

# shellcheck disable=SC2317,SC2329  # it is run through check
test_with_sanitizers() {
  step configure-asan 'Configuring Penstock (asan)' cmake --preset asan &&
    step build-asan 'Building the unit tests with ASan and UBSan' cmake --build --preset asan &&
    ctest --test-dir build/asan --output-on-failure --no-tests=error -L unit
}

need_build_packages
# Of the official clients' languages, Debian 12 has only Java in a new enough version. Node and Go are used if installed.
need_packages openjdk-17-jdk-headless maven
need_packages libfaketime  # sets the clock of a server
need_packages strace       # makes a server's disk fail
need_packages zsh fish mandoc  # complete command lines, and read the manual
need_packages chromium     # shows the dashboard
need_postgresql            # the tests start it themselves
need_venv
step pip 'Installing the Python packages of the tests' \
  "$venv/bin/pip" install --require-hashes --only-binary :all: -r tests/requirements.txt
scripts/model.sh
scripts/llama.sh
scripts/tools.sh
scripts/web.sh
step configure-release 'Configuring Penstock (release)' cmake --preset release
step build-release 'Building Penstock and its unit tests' cmake --build --preset release

check 'unit tests' "$venv/bin/python" tests/services.py run postgres s3 moto toxiproxy -- \
  ctest --test-dir build/release --output-on-failure --no-tests=error -L unit
check 'include order' "$venv/bin/python" tests/include_order_test.py src
check 'types and words of the dashboard' npm --prefix src/web run --silent check
check 'the page on reliability names its tests' "$venv/bin/python" tests/docs_test.py
check 'what deploys it fits the program' "$venv/bin/python" -m pytest -q -rs tests/deploy_test.py
e2e=("$venv/bin/python" -m pytest -rs tests/e2e)
shared=postgres+s3
[ -x build/tools/versitygw ] || shared=postgres
check 'end to end, with a real model' "${e2e[@]}"
if [ -n "$quick" ]; then
  check "a few on $shared" "${e2e[@]}" --store $shared -m quick
else
  [ $shared = postgres ] || check 'end to end on postgres' "${e2e[@]}" --store postgres -m 'not many'
  check "end to end on $shared, many processes too" "${e2e[@]}" --store $shared
fi
check 'fuzzing, a short run' scripts/fuzz.sh
if [ -z "$quick" ]; then
  check 'broken promises are noticed' "$venv/bin/python" tests/mutants.py
  check 'unit tests with ASan and UBSan' test_with_sanitizers
fi

printf '\n== Summary after %d s\n' "$SECONDS"
printf '%s\n' "${outcomes[@]}"
[ -z "$quick" ] || echo 'not run  broken promises, unit tests with ASan and UBSan, all on other stores (--quick)'
[ $shared = postgres+s3 ] || echo 'not run  what needs S3: versitygw is not built'
exit $failed
