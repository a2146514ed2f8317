#!/bin/sh
# Runs every part of the tests, stops at the first that fails, and ends with the counts of all that ran.
set -u
results=build/results
rm -rf $results
mkdir -p $results

tally() {
  cat $results/*.count 2>/dev/null | awk '
    { passed += $1; failed += $2; skipped += $3 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }'
}

for part in "$@"; do
  printf '\n== %s\n' "$part"
  if ! ${MAKE:-make} --no-print-directory "$part"; then
    # A part that fails before it has run a test has failed all the same.
    [ -e "$results/$part.count" ] && ! grep -q '^[0-9]* 0 ' "$results/$part.count" ||
      echo "0 1 0" >"$results/$part.count"
    printf '\n%s failed\n' "$part"
    tally
    exit 1
  fi
done
echo
tally
