#!/bin/sh
# Hosts that do not link uvcurl, or not alone: one that loads it at run time, a scripting language on luv's loop, a program
# with a second library written in Rust.
set -u
cases="dlopen dlopen_unchecked lua_on_luvs_loop two_rust_libraries threads"
. "$(dirname "$0")/../support/consumer.sh"

# shellcheck disable=SC2086 # flags, here and below
dlopen() {
  cc $c_flags src/dlopen.c -I"$prefix/include" -lcurl -luv -ldl -o dlopen
  fails needs ./dlopen libuvcurl.so.0
  fetches ./dlopen --ca "$ca" "$prefix/lib/libuvcurl.so.0"
}

# shellcheck disable=SC2086
dlopen_unchecked() {
  cc $c_flags src/dlopen.c -I"$prefix/include" -lcurl -luv -ldl -o dlopen
  fetches ./dlopen --ca "$ca" --unchecked yes "$prefix/lib/libuvcurl.so.0"
}

lua_on_luvs_loop() {
  luajit -e 'require "luv"'
  fetches luajit src/lua/fetch.lua "$prefix/lib/libuvcurl.so.0" "$ca"
}

# Both have Rust's standard library inside, in either order, built with panics that unwind.
# shellcheck disable=SC2086
two_rust_libraries() {
  rustc --edition 2021 -O --crate-type staticlib src/other.rs -o libother.a
  cc $c_flags -DOTHER_RUST -c src/fetch.c -I"$prefix/include"
  for order in "$prefix/lib/libuvcurl.a libother.a" "libother.a $prefix/lib/libuvcurl.a"; do
    cc fetch.o $order -lcurl -luv -lgcc_s -lm -o fetch
    fetches_static ./fetch --ca "$ca"
  done
  cc fetch.o libother.a -L"$prefix/lib" -luvcurl -lcurl -luv -lgcc_s -lm -o fetch
  LD_LIBRARY_PATH="$prefix/lib" fetches ./fetch --ca "$ca"
}

# shellcheck disable=SC2086
threads() {
  cc $c_flags src/fetch.c -I"$prefix/include" -L"$prefix/lib" -luvcurl -lcurl -luv -o fetch
  LD_LIBRARY_PATH="$prefix/lib" fetches ./fetch --threads 4 --ca "$ca"
}

consumer_main "$@"
