#!/bin/sh
# What a program that uses the library meets before it runs: the header, pkg-config, an installation elsewhere.
# Cases in the manner of the C tests: `--list` names them, a name runs one and speaks TAP.
set -u
cases="header_c11 header_cpp17 header_twice install_and_use uninstall ca_bundle hello_runs"
root=$(cd "$(dirname "$0")/.." && pwd)
pc_path=$root/build/embedded/lib/pkgconfig
work=

# Library headers as system headers: they are not ours to hold to -pedantic.
flags() { PKG_CONFIG_PATH=$pc_path pkg-config --static "$@" uvcurl; }

header_c11() {
  printf '#include <uvcurl.h>\nint main(void) { return UVCURL_VERSION_NUMBER == 0; }\n' >"$work/a.c"
  # shellcheck disable=SC2046
  cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -pedantic -Werror $(flags --cflags) -c "$work/a.c" -o "$work/a.o"
}

header_cpp17() {
  printf '#include <uvcurl.h>\nint main() { return UVCURL_VERSION_NUMBER == 0; }\n' >"$work/a.cpp"
  # shellcheck disable=SC2046
  c++ -std=c++17 -Wall -Wextra -pedantic -Werror $(flags --cflags) -c "$work/a.cpp" -o "$work/a.o"
}

header_twice() {
  for unit in a b; do
    printf '#include <uvcurl.h>\n#include <uvcurl.h>\nunsigned %s(void) { return uvcurl_version(); }\n' $unit >"$work/$unit.c"
  done
  printf 'unsigned a(void), b(void); int main(void) { return a() != b(); }\n' >"$work/main.c"
  # shellcheck disable=SC2046
  cc -Wall -Wextra -Werror "$work"/*.c $(flags --cflags --libs) -o "$work/main" && "$work/main"
}

# As somebody would who has never seen the source tree.
install_and_use() {
  make --no-print-directory -C "$root" install PREFIX="$work/prefix" INSTALL_BUILD="$work/build" >"$work/log" 2>&1 || {
    cat "$work/log"
    return 1
  }
  mkdir "$work/elsewhere" && cp "$root/examples/hello.c" "$work/elsewhere/prog.c" && cd "$work/elsewhere" || return 1
  export PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig"
  # shellcheck disable=SC2046
  cc prog.c $(pkg-config --cflags --libs --static uvcurl) -o prog || return 1
  ./prog "http://127.0.0.1:$UVCURL_TEST_NGINX_HTTP/1k" >body 2>/dev/null || return 1
  [ "$(wc -c <body)" -eq 1024 ] || return 1
  # The whole prefix moves.
  mv "$work/prefix" "$work/moved" && export PKG_CONFIG_PATH="$work/moved/lib/pkgconfig"
  # shellcheck disable=SC2046
  cc prog.c $(pkg-config --cflags --libs --static uvcurl) -o prog2 &&
    ./prog2 "http://127.0.0.1:$UVCURL_TEST_NGINX_HTTP/1k" 2>/dev/null | cmp - body
}

uninstall() {
  make --no-print-directory -C "$root" install uninstall PREFIX=/p DESTDIR="$work/root" INSTALL_BUILD="$work/build" \
    >"$work/log" 2>&1 || {
    cat "$work/log"
    return 1
  }
  [ -z "$(find "$work/root" -type f)" ]
}

# The embedded libcurl knows a CA bundle, and https without any option finds it.
ca_bundle() {
  printf '#include <uvcurl.h>\n#include <stdio.h>\nint main(void) {
    const char *f = curl_version_info(CURLVERSION_NOW)->cainfo;
    puts(f ? f : "none"); return !f; }\n' >"$work/a.c"
  # shellcheck disable=SC2046
  cc "$work/a.c" $(flags --cflags --libs) -o "$work/a" && "$work/a" >"$work/out" && [ -r "$(cat "$work/out")" ]
}

hello_runs() {
  hello=$root/build/examples/hello
  "$hello" "http://127.0.0.1:$UVCURL_TEST_NGINX_HTTP/100k" >"$work/body" 2>"$work/err" || return 1
  [ "$(wc -c <"$work/body")" -eq 102400 ] || return 1
  "$hello" "http://127.0.0.1:$UVCURL_TEST_NGINX_HTTP/none" >/dev/null 2>"$work/err"
  grep -q 404 "$work/err"
}

case ${1-} in
--list) printf '%s\n' $cases ;;
*)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo 1..1
  if (eval "$1"); then
    echo "ok 1 - build/$1"
  else
    echo "not ok 1 - build/$1"
    exit 1
  fi
  ;;
esac
