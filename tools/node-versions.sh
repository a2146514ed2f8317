#!/bin/sh
# Runs the addon's tests, as it was built for the machine's Node, on other versions: node-versions.sh RESULTS VERSION ...
#
#   REPEAT   how often on each version (1)
#   CASES    which test files (all but those that build something)
#   LAUNCH   a command that starts each repetition, such as `nice -n 10`
set -eu
results=$1
shift
repeat=${REPEAT:-1}
case $repeat in
*[!0-9]* | 0*) echo "node-versions.sh: REPEAT is a number from 1, not $repeat" >&2 && exit 2 ;;
esac
files=
for name in ${CASES:-bindings request abort life fair nginx memory}; do
  files="$files c-tests/node/test/$name.test.js"
done
rm -rf "$results"
for version in "$@"; do
  bin=$(sh tools/node.sh "$version")
  "$bin/node" -p '`Node ${process.version}: libuv ${process.versions.uv}, OpenSSL ${process.versions.openssl}, nghttp2 ${process.versions.nghttp2}`'
done

# One repetition on each version and then the next, so that a run that is cut short has seen them all.
repetition=1
while [ "$repetition" -le "$repeat" ]; do
  for version in "$@"; do
    [ "$repeat" = 1 ] || printf '%s: ' "$repetition"
    # shellcheck disable=SC2086 # a command and its arguments, a list of files
    UVCURL_TEST_NODE=$(sh tools/node.sh "$version")/node \
      ${LAUNCH-} sh tools/node-suite.sh "$results/test-node-$version.$repetition.count" $files || :
  done
  repetition=$((repetition + 1))
done

# What counts is what has been written down: a repetition that left nothing has failed.
status=0
for version in "$@"; do
  repetition=1 passed=0 failed=0 skipped=0 bad=
  while [ "$repetition" -le "$repeat" ]; do
    if read -r p f s 2>/dev/null <"$results/test-node-$version.$repetition.count" && [ "$p" -gt 0 ]; then
      passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    else
      f=1 failed=$((failed + 1))
    fi
    [ "$f" = 0 ] || bad="$bad $repetition"
    repetition=$((repetition + 1))
  done
  echo "Node $version, $repeat times: $passed passed, $failed failed, $skipped skipped${bad:+; failed in repetition$bad}"
  [ "$failed" = 0 ] || status=1
done
exit $status
