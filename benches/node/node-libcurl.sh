#!/bin/sh
# Builds node-libcurl for `make bench-node`, with the libcurl that is in libuvcurl_node.a, so that both have the same:
# node-libcurl.sh FOLDER PREFIX, PREFIX being where uvcurl for Node is installed. Its release asks for a nan on GitHub,
# for Electron's sake; the one in the registry does.
set -eu
folder=$1
prefix=$2
node=$(node -p 'require("path").resolve(process.execPath, "../..")')
built=node_modules/node-libcurl/lib/binding/node_libcurl.node
mkdir -p "$folder"
cd "$folder"
# Built on another libuvcurl_node.a, it would be of another libcurl.
[ ! -e $built ] || [ ! $built -nt "$prefix/lib/uvcurl-node/libuvcurl_node.a" ] || exit 0
echo "building node-libcurl"
echo '{ "private": true, "overrides": { "node-libcurl": { "nan": "2" } } }' >package.json
{ npm install --ignore-scripts --silent node-libcurl@4.1.0 && cd node_modules/node-libcurl &&
  npm_config_nodedir=$node node "$node/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js" rebuild -- \
    -Dmodule_name=node_libcurl -Dmodule_path=lib/binding "-Dcurl_include_dirs=$prefix/include/uvcurl-node" \
    "-Dcurl_libraries=$prefix/lib/uvcurl-node/libuvcurl_node.a -Wl,--exclude-libs,ALL -ldl -lm"; } >build.log 2>&1 || {
  tail -n 20 build.log
  exit 1
}
