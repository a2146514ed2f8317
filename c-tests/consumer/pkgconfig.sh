#!/bin/sh
# Programs that are built by a plain compiler command and pkg-config. (An installation with a static library alone, and
# other library directories: cmake.sh.)
set -u
cases="shared_c shared_cpp static_c static_cpp moved versions"
. "$(dirname "$0")/../support/consumer.sh"
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"

flags() { pkg-config --cflags --libs uvcurl; }

# shellcheck disable=SC2046,SC2086 # lists of flags, here and below
shared_c() {
  cc $c_flags src/fetch.c $(flags) -o fetch
  needs fetch libuvcurl.so.0
  LD_LIBRARY_PATH="$prefix/lib" fetches ./fetch --ca "$ca"
}

# shellcheck disable=SC2046,SC2086
shared_cpp() {
  c++ $cxx_flags src/fetch.cpp $(flags) -o fetch
  needs fetch libuvcurl.so.0
  LD_LIBRARY_PATH="$prefix/lib" fetches ./fetch --ca "$ca"
}

# The archive by its name, where both are installed: `pkg-config --static` would ask for libcurl's and its libraries' static
# ones as well, of which Debian has not all.
static_flags() { flags | sed 's/-luvcurl/-l:libuvcurl.a/'; }

# shellcheck disable=SC2046,SC2086
static_c() {
  cc $c_flags src/fetch.c $(static_flags) -o fetch
  fetches_static ./fetch --ca "$ca"
}

# shellcheck disable=SC2046,SC2086
static_cpp() {
  c++ $cxx_flags src/fetch.cpp $(static_flags) -o fetch
  fetches_static ./fetch --ca "$ca"
}

# shellcheck disable=SC2046,SC2086
moved() {
  cp -R "$prefix" prefix
  mv prefix moved
  export PKG_CONFIG_PATH="$work/moved/lib/pkgconfig"
  flags | grep -e "$work/moved"
  fails grep -e "$prefix" "$work/moved/lib/pkgconfig/uvcurl.pc"
  cc $c_flags src/fetch.c $(flags) -o fetch
  LD_LIBRARY_PATH="$work/moved/lib" fetches ./fetch --ca "$ca"
}

versions() {
  pkg-config --exists 'uvcurl >= 0.1 uvcurl < 0.2'
  fails pkg-config --exists 'uvcurl >= 0.2'
  pkg-config --print-requires uvcurl | grep '^libuv >= 1\.44'
  pkg-config --print-requires uvcurl | grep '^libcurl >= 7\.84'
}

consumer_main "$@"
