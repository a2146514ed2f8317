#!/bin/sh
# Runs the addon's tests, as it was built for the machine's Node, on other versions: node-versions.sh RESULTS VERSION ...
set -eu
results=$1
shift
failed=
for version in "$@"; do
  bin=$(sh tools/node.sh "$version")
  "$bin/node" -p '`Node ${process.version}: libuv ${process.versions.uv}, OpenSSL ${process.versions.openssl}, nghttp2 ${process.versions.nghttp2}`'
  UVCURL_TEST_NODE=$bin/node sh tools/node-suite.sh "$results/test-node-$version.count" \
    c-tests/node/test/bindings.test.js c-tests/node/test/request.test.js c-tests/node/test/abort.test.js \
    c-tests/node/test/life.test.js c-tests/node/test/fair.test.js c-tests/node/test/nginx.test.js \
    c-tests/node/test/memory.test.js || failed="$failed $version"
done
[ -z "$failed" ] || { echo "failed on:$failed" && exit 1; }
