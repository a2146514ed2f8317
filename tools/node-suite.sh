#!/bin/sh
# Runs test files of the addon with Node's own test runner, and counts the cases that it counts.
#
#   node-suite.sh RESULT FILE ...      with UVCURL_TEST_ADDON; UVCURL_TEST_NODE names another Node, UVCURL_TEST_FLAGS flags for it,
#   UVCURL_TEST_TIMEOUT the milliseconds after which a file hangs
set -eu
result=$1
shift
node=${UVCURL_TEST_NODE:-node}
mkdir -p "$(dirname "$result")"
rm -f "$result"
tap=$result.tap
status=0
# Files one after the other, for each has servers and children of its own.
# shellcheck disable=SC2086 # a list of flags
"$node" ${UVCURL_TEST_FLAGS-} --test --test-concurrency=1 --test-timeout="${UVCURL_TEST_TIMEOUT:-300000}" \
  --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination="$tap" "$@" >"$result.log" 2>&1 || status=$?
# One line for each case that passed is a long list; all of it when something did not.
[ $status = 0 ] || sed -n '/failing tests/,$p' "$result.log"
number() { sed -n "s/^# $1 //p" "$tap" | tail -n 1; }
passed=$(number pass)
failed=$(($(number fail) + $(number cancelled)))
skipped=$(($(number skipped) + $(number todo)))
# A runner that failed without a failing case has failed all the same.
[ $status = 0 ] || [ "$failed" -gt 0 ] || failed=1
# A file that ended before its first case passes with no case: the runner then counts the file.
[ "$((passed + failed + skipped))" -ge "$(cat "$@" | grep -c "^test(")" ] || failed=$((failed + 1))
echo "$passed $failed $skipped" >"$result"
echo "$passed passed, $failed failed, $skipped skipped ($("$node" --version))"
[ "$failed" = 0 ]
