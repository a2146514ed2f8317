#!/bin/sh
# The packages that `make packages` makes, installed where nothing else of uvcurl is.
set -u
cases="archive embedded_archive deb_fields"
. "$(dirname "$0")/../support/consumer.sh"
packages=$root/build/packages

# project DIRECTORY LANGUAGE LINKAGE PREFIX
project() {
  cmake -S src/find_package -B "$1" -DCMAKE_PREFIX_PATH="$4" -DLANGUAGE="$2" -DLINKAGE="$3"
  cmake --build "$1"
}

unpack() { # name
  mkdir unpacked
  tar xzf "$packages/$1" -C unpacked --strip-components 1
  export PKG_CONFIG_PATH="$PWD/unpacked/lib/pkgconfig"
}

# shellcheck disable=SC2046,SC2086 # lists of flags, here and below
archive() {
  unpack "uvcurl-0.1.0-linux-$(uname -m).tar.gz"
  project b1 C shared "$PWD/unpacked"
  fetches_shared b1/fetch --ca "$ca"
  project b2 CXX static "$PWD/unpacked"
  fetches_static b2/fetch --ca "$ca"
  cc $c_flags src/fetch.c $(pkg-config --cflags --libs uvcurl) -o fetch
  LD_LIBRARY_PATH="$PWD/unpacked/lib" fetches_shared ./fetch --ca "$ca"
}

embedded_archive() {
  unpack "uvcurl-0.1.0-linux-$(uname -m)-embedded.tar.gz"
  project b1 C static "$PWD/unpacked"
  fetches_with 0 0 0 b1/fetch --ca "$ca"
  project b2 CXX uvcurl "$PWD/unpacked"
  fetches_with 0 0 0 b2/fetch --ca "$ca"
  cc $c_flags src/fetch.c $(pkg-config --cflags --libs --static uvcurl) -o fetch
  fetches_with 0 0 0 ./fetch --ca "$ca"
}

deb_fields() {
  command -v dpkg-deb || skip "no dpkg"
  deb=$(echo "$packages"/libuvcurl0_*.deb)
  dpkg-deb -f "$deb" Depends | grep libcurl4
  dpkg-deb -f "$deb" Depends | grep libuv1
  dpkg-deb -c "$deb" | grep "/libuvcurl.so.0.[0-9.]*$"
  fails sh -c "dpkg-deb -c $deb | grep -e '\.h$' -e '\.a$' -e 'uvcurl\.so$'"
  dpkg-deb --info "$deb" shlibs | grep '^libuvcurl 0 libuvcurl0'
  deb=$(echo "$packages"/libuvcurl-dev_*.deb)
  dpkg-deb -f "$deb" Depends | grep "libuvcurl0 (= .*libuv1-dev .*libcurl4-openssl-dev"
  for file in include/uvcurl.h lib/.*/libuvcurl.so lib/.*/libuvcurl.a lib/.*/pkgconfig/uvcurl.pc lib/.*/uvcurlConfig.cmake; do
    dpkg-deb -c "$deb" | grep "/usr/$file"
  done
}

consumer_main "$@"
