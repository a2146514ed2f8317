#!/bin/sh
# A configuration that cannot work ends with one sentence that says what to do, and as early as it can be known.
# Cases in the manner of the C tests: `--list` names them, a name runs one and speaks TAP.
set -u
cases="libuv_missing libcurl_missing libuv_too_old libcurl_too_old wrong_libuv wrong_libcurl libclang_missing
  pkg_config_missing cargo_missing rust_too_old unknown_bindings no_ready_bindings ready_bindings_do_not_fit embedded_shared unknown_tls static_libuv
  cargo_bundles_libuv cargo_bundles_libcurl cargo_embedded_on_host_libuv
  cargo_node_and_embedded cargo_node_with_a_second_libuv cargo_node_on_host_libcurl"
root=$(cd "$(dirname "$0")/.." && pwd)
work=

# refused SENTENCE OPTION ...: configuring fails, and says SENTENCE (a basic regular expression), wrapped or not.
refused() {
  sentence=$1
  shift
  if cmake -S "$root" -B "$work/build" "$@" >"$work/log" 2>&1; then
    echo "# was accepted: $*" >&2
    return 1
  fi
  # CMake breaks the lines of a message.
  tr -s ' \n' '  ' <"$work/log" | grep -q "$sentence" && return 0
  sed 's/^/# /' "$work/log" >&2
  return 1
}

# Where a compiler of the distribution has its headers and libraries: not to be looked at, as if nothing were there.
nowhere() {
  ignored=$(cc -print-search-dirs | sed -n 's/^libraries: =//p' | tr ':' '\n' | while read -r d; do
    [ -d "$d" ] && (cd "$d" && pwd)
  done | sort -u | tr '\n' ';')
  echo "-DCMAKE_IGNORE_PATH=${ignored}/usr/include;/usr/local/include;/usr/include/$(cc -dumpmachine)"
}

# copy_of uv|curl: a prefix with a copy of the machine's headers and a link to its library.
copy_of() {
  mkdir -p "$work/$1/include" "$work/$1/lib"
  case $1 in
  uv)
    include=$(pkg-config --variable=includedir libuv)
    cp -R "$include/uv.h" "$include/uv" "$work/uv/include/"
    ln -s "$(pkg-config --variable=libdir libuv)/libuv.so" "$work/uv/lib/libuv.so"
    ;;
  curl)
    cp -R "$(pkg-config --variable=includedir libcurl)/curl" "$work/curl/include/"
    ln -s "$(pkg-config --variable=libdir libcurl)/libcurl.so" "$work/curl/lib/libcurl.so"
    ;;
  esac
}

libuv_missing() {
  PKG_CONFIG_LIBDIR=/none refused 'libuv is missing: install .*libuv1-dev' "$(nowhere)"
}

libcurl_missing() {
  copy_of uv
  PKG_CONFIG_LIBDIR=/none refused 'libcurl is missing: install .*libcurl4-openssl-dev' "$(nowhere)" \
    "-DCMAKE_PREFIX_PATH=$work/uv"
}

libuv_too_old() {
  copy_of uv
  sed -i 's/^#define UV_VERSION_MINOR .*/#define UV_VERSION_MINOR 40/' "$work/uv/include/uv/version.h"
  refused 'uvcurl needs libuv 1.44.0 or later, and .*is of 1.40' "-DUVCURL_UV_INCLUDE_DIR=$work/uv/include"
}

libcurl_too_old() {
  copy_of curl
  sed -i 's/^#define LIBCURL_VERSION ".*/#define LIBCURL_VERSION "7.74.0"/' "$work/curl/include/curl/curlver.h"
  refused 'uvcurl needs libcurl 7.84.0 or later, and .*is of 7.74.0' "-DCURL_INCLUDE_DIR=$work/curl/include"
}

# The headers of a libuv that somebody built, and the library of the distribution.
wrong_libuv() {
  copy_of uv
  sed -i 's/^#define UV_VERSION_MINOR .*/#define UV_VERSION_MINOR 99/' "$work/uv/include/uv/version.h"
  refused 'headers are of libuv 1\.99.* but the libraries that a program loads are libuv .*remove the wrong copy' \
    "-DUVCURL_UV_INCLUDE_DIR=$work/uv/include"
}

wrong_libcurl() {
  copy_of curl
  sed -i 's/^#define LIBCURL_VERSION ".*/#define LIBCURL_VERSION "8.99.0"/' "$work/curl/include/curl/curlver.h"
  refused 'and libcurl 8\.99\.0 .* and libcurl .*remove the wrong copy' "-DCURL_INCLUDE_DIR=$work/curl/include"
}

libclang_missing() {
  refused 'libclang is missing, which reads uv.h: install .*UVCURL_BINDINGS=ready' "-DUVCURL_LIBCLANG_DIRS=$work"
}

pkg_config_missing() {
  refused 'pkg-config is missing: install it' -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON
}

cargo_missing() {
  # With what is found beside cargo named, so that its folder can be left out.
  refused 'cargo and rustc are missing: install Rust' "-DCMAKE_C_COMPILER=$(command -v cc)" \
    "-DCMAKE_MAKE_PROGRAM=$(command -v make)" \
    "-DCMAKE_IGNORE_PATH=$HOME/.cargo/bin;${CARGO_HOME:-/none}/bin;/usr/bin;/bin;$(dirname "$(command -v cargo)")"
}

rust_too_old() {
  printf '#!/bin/sh\necho "rustc 1.70.0"\necho "host: x86_64-unknown-linux-gnu"\necho "release: 1.70.0"\n' >"$work/rustc"
  chmod +x "$work/rustc"
  refused 'uvcurl needs Rust .* or later and .* is 1.70.0' "-DUVCURL_RUSTC=$work/rustc"
}

unknown_bindings() {
  refused 'UVCURL_BINDINGS is bindgen or ready, not magic' -DUVCURL_BINDINGS=magic
}

no_ready_bindings() {
  refused 'no ready bindings for riscv64gc-unknown-linux-gnu' -DUVCURL_BINDINGS=ready \
    -DUVCURL_RUST_TARGET=riscv64gc-unknown-linux-gnu
}

# A libuv whose handles are of another size.
ready_bindings_do_not_fit() {
  copy_of uv
  sed -i 's/  uv__io_t io_watcher;/  uv__io_t io_watcher; char more[64];/' "$work/uv/include/uv/unix.h"
  refused 'ready bindings for .* do not fit .*UVCURL_BINDINGS=bindgen' -DUVCURL_BINDINGS=ready \
    "-DUVCURL_UV_INCLUDE_DIR=$work/uv/include"
}

embedded_shared() {
  refused 'an embedded libuvcurl is a static library only' -DUVCURL_EMBEDDED=ON -DBUILD_SHARED_LIBS=ON
}

unknown_tls() {
  refused 'UVCURL_TLS is openssl, rustls or vendored-openssl, not magic' -DUVCURL_EMBEDDED=ON -DUVCURL_TLS=magic
}

# The shared library would hold a libuv of its own.
static_libuv() {
  refused 'a shared libuvcurl on a static libuv would put a second libuv into every program' -DBUILD_SHARED_LIBS=ON \
    "-DUVCURL_UV_LIBRARY=$(pkg-config --variable=libdir libuv)/libuv_a.a"
}

# cargo_refused SENTENCE CONFIGURATION OPTION ...: the same of build.rs, with what other crates report made up.
cargo_refused() {
  sentence=$1
  target=$(rustc -vV | sed -n 's/^host: //p')
  uv=$(pkg-config --variable=includedir libuv)
  printf '[target.%s.uv]\nrustc-env = { OUT_DIR = "%s" }\ninclude = "%s"\n[target.%s.curl]\ninclude = "/none"\n%s\n[target.%s.z]\nx = ""\n' \
    "$target" "$root/cmake/bindings/$target" "$(eval echo "$2")" "$target" "$3" "$target" >"$work/config.toml"
  shift 3
  if (cd "$root" && cargo check --locked --lib --config "$work/config.toml" --target-dir "$work/target" "$@" >"$work/log" 2>&1); then
    echo "# was accepted" >&2
    return 1
  fi
  tr -s ' \n' '  ' <"$work/log" | grep -q "$sentence" && return 0
  sed 's/^/# /' "$work/log" >&2
  return 1
}

cargo_bundles_libuv() {
  cargo_refused "the host's libuv is to be used, but libuv-sys2 compiled one of its own" libuv/include '' --no-default-features
}

cargo_bundles_libcurl() {
  cargo_refused "the host's libcurl is to be used, but curl-sys compiled one of its own" "\$uv" 'static = "1"' --no-default-features
}

cargo_embedded_on_host_libuv() {
  cargo_refused 'embedded mode was asked for, but libuv-sys2 uses the libuv in' "\$uv" 'static = "1"' --no-default-features --features bundled
}

cargo_node_and_embedded() {
  cargo_refused 'the features `node` and `embedded` exclude each other' "\$uv" 'static = "1"' --no-default-features --features node,bundled
}

cargo_node_with_a_second_libuv() {
  cargo_refused "the feature .node. takes Node's libuv, but libuv-sys2 compiled one of its own" libuv/include 'static = "1"' \
    --no-default-features --features node
}

cargo_node_on_host_libcurl() {
  cargo_refused 'the feature `node` has a libcurl inside, but curl-sys linked one of the system' "\$uv" '' \
    --no-default-features --features node
}

case ${1-} in
--list) printf '%s\n' $cases ;;
*)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo 1..1
  if (eval "$1"); then
    echo "ok 1 - configure/$1"
  else
    echo "not ok 1 - configure/$1"
    exit 1
  fi
  ;;
esac
