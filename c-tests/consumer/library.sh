#!/bin/sh
# The installed files themselves: names, symbols and what they need.
set -u
cases="layout soname_and_flags shared_symbols static_symbols nothing_undefined header_alone"
. "$(dirname "$0")/../support/consumer.sh"

# Every function that the header declares.
declared() {
  cc -E -I"$prefix/include" "$prefix/include/uvcurl.h" | tr '\n;{}' ' \n\n\n' |
    sed -n 's/.*[ *]\(uvcurl_[a-z_]*\)(.*/\1/p' | grep -v '_cb$' | sort -u >declared
  [ "$(wc -l <declared)" -ge 17 ]
}

layout() {
  (cd "$prefix" && find . ! -type d | sort) >found
  for file in include/uvcurl.h lib/libuvcurl.a lib/libuvcurl.so lib/libuvcurl.so.0 lib/pkgconfig/uvcurl.pc \
    lib/cmake/uvcurl/uvcurlConfig.cmake lib/cmake/uvcurl/uvcurlConfigVersion.cmake lib/cmake/uvcurl/uvcurlTargets.cmake; do
    grep -xF "./$file" found
  done
  cmp "$prefix/include/uvcurl.h" "$root/include/uvcurl.h"
  [ "$(readlink "$prefix/lib/libuvcurl.so")" = libuvcurl.so.0 ]
  [ "$(readlink "$prefix/lib/libuvcurl.so.0")" = libuvcurl.so.0.1.0 ]
  # No file of a libuv or libcurl, nothing else either.
  fails grep -v -e '^./include/uvcurl\.h$' -e '^./lib/libuvcurl\.' -e '^./lib/pkgconfig/uvcurl\.pc$' \
    -e '^./lib/cmake/uvcurl/' -e '^./share/doc/uvcurl/' found
}

soname_and_flags() {
  readelf -d "$prefix/lib/libuvcurl.so" >dynamic
  grep -F 'Library soname: [libuvcurl.so.0]' dynamic
  grep 'FLAGS_1.*NODELETE' dynamic
  [ "$(grep -c 'NEEDED.*\[libuv\.so\.1\]' dynamic)" -eq 1 ]
  [ "$(grep -c 'NEEDED.*\[libcurl\.so\.4\]' dynamic)" -eq 1 ]
  fails grep -e RPATH -e RUNPATH -e TEXTREL dynamic
  fails grep -e 'NEEDED.*ssl' dynamic
}

shared_symbols() {
  declared
  nm -D --defined-only "$prefix/lib/libuvcurl.so" | awk '$2 != "A" { print $3 }' | sort >exported
  sed 's/$/@@UVCURL_0/' declared | sort >wanted
  diff exported wanted
}

# One object of which nothing is visible but the header's functions, or it would clash with other Rust libraries.
static_symbols() {
  declared
  nm -g --defined-only "$prefix/lib/libuvcurl.a" | awk 'NF == 3 { print $3 }' | sort >exported
  diff exported declared
  nm -g --undefined-only "$prefix/lib/libuvcurl.a" | awk 'NF == 2 { print $2 }' >undefined
  grep -x uv_poll_start undefined
  grep -x curl_multi_socket_action undefined
}

nothing_undefined() {
  ldd -r "$prefix/lib/libuvcurl.so" >out 2>&1
  cat out
  fails grep -e 'undefined symbol' -e 'not found' out
  # As a preloaded library it has nobody to lean on.
  LD_BIND_NOW=1 LD_PRELOAD="$prefix/lib/libuvcurl.so.0" /bin/true
}

# The header needs nothing but what it includes, in the strictest dialects, and warns nobody.
header_alone() {
  printf '#include <uvcurl.h>\nint main(void) { return UVCURL_VERSION_NUMBER == 0; }\n' >a.c
  cp a.c a.cpp
  cc -std=gnu99 -Wall -Wextra -Wconversion -Wstrict-prototypes -pedantic -Werror -I"$prefix/include" -c a.c
  c++ -std=c++11 -Wall -Wextra -Wconversion -pedantic -Werror -I"$prefix/include" -c a.cpp
}

consumer_main "$@"
