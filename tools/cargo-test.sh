#!/bin/sh
# Runs `cargo test` with the arguments given and notes the counts in the file named first.
set -u
result=$1
shift
log=$result.log
cargo test --locked "$@" >"$log" 2>&1
status=$?
cat "$log"
perl -ne '
  if (/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/) { $p += $1; $f += $2; $s += $3 }
  END { printf "%d %d %d\n", $p, $f, $s }' "$log" >"$result"
if [ $status -ne 0 ] && grep -q '^[0-9]* 0 ' "$result"; then
  # It did not even build.
  echo "0 1 0" >"$result"
fi
exit $status
