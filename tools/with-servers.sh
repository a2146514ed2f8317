#!/bin/sh
# Runs a command with what the C tests find in their environment: certificates, and a real nginx on loopback.
set -eu
certs=build/certs
nginx=$(mktemp -d)
mkdir -p build/results
sh c-tests/support/certs.sh $certs
stop() {
  sh c-tests/support/nginx.sh stop "$nginx" || true
  rm -rf "$nginx"
}
trap stop EXIT
trap 'exit 1' INT TERM
sh c-tests/support/nginx.sh start "$nginx" "$PWD/$certs"
set -a
# shellcheck disable=SC1091 # made by the line above
. "$nginx/env"
UVCURL_TEST_CERTS=$PWD/$certs
set +a
"$@"
