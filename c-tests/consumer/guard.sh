#!/bin/sh
# Two copies of libuv or libcurl in one process are refused, and one is not, however it was linked. The rows are those of
# docs/linking.md, "Two copies"; where a row is accepted, transfers are run on it.
set -u
cases="system_shared system_static system_threads embedded_shared embedded_shared_plain embedded_static_before_system
  embedded_static_after_system libcurl_gnutls libcurl_gnutls_dlopen merged_literals static_libuv_in_program
  static_libuv_dlopen static_libuv_exported"
. "$(dirname "$0")/../support/consumer.sh"
export LD_LIBRARY_PATH="$prefix/lib"
system="-lcurl -luv -ldl -lpthread -lm"
uv=UVCURL_E_LIBUV_MISMATCH
curl=UVCURL_E_LIBCURL_MISMATCH

# What the embedded archive needs beside it.
embedded_needs() { PKG_CONFIG_PATH="$embedded/lib/pkgconfig" pkg-config --static --libs uvcurl | sed 's/-luvcurl//'; }

file_of() { cc -print-file-name="$1"; }

# shellcheck disable=SC2086 # flags, here and below
program() { # name, flags: $cflags and the program's libraries
  name=$1
  shift
  cc $c_flags ${cflags-} -I"$prefix/include" "src/$name.c" "$@" -o "$name"
}

# The program must be told which copy is not the one, and what to do.
refuses() { # status, program, arguments
  status=$1
  shift
  "$@" >out 2>&1
  cat out
  grep "^$status (-[0-9]*): the program and uvcurl use two different copies of lib" out
  case $status in
  "$uv") grep "build uvcurl on the program's libuv" out ;;
  *) grep "build uvcurl on the program's libcurl" out ;;
  esac
}

system_shared() {
  for pie in "-fPIE -pie" "-fno-pie -no-pie"; do
    # shellcheck disable=SC2046,SC2086
    cflags=$pie program fetch -L"$prefix/lib" -luvcurl $system
    fetches ./fetch --ca "$ca"
  done
}

system_static() {
  for pie in "-fPIE -pie" "-fno-pie -no-pie"; do
    # shellcheck disable=SC2046,SC2086
    cflags=$pie program fetch "$prefix/lib/libuvcurl.a" $system
    fetches_static ./fetch --ca "$ca"
  done
}

# shellcheck disable=SC2046,SC2086
system_threads() {
  program fetch "$prefix/lib/libuvcurl.a" $system
  fetches_static ./fetch --threads 4 --ca "$ca"
}

# The shared library that cargo makes by default has a libuv and a libcurl inside; nobody should use it in such a program.
# shellcheck disable=SC2046,SC2086
embedded_shared() {
  program fetch "$embedded_so" $system
  export LD_LIBRARY_PATH="${embedded_so%/*}"
  refuses $uv ./fetch --refused $uv
}

# Without the macro: libuv's copy is found out all the same.
# shellcheck disable=SC2046,SC2086
embedded_shared_plain() {
  program dlopen $system
  refuses $uv ./dlopen --refused $uv "$embedded_so"
  refuses $uv ./dlopen --refused $uv --unchecked yes "$embedded_so"
}

# The order of the link decides who is whose; either way there is one of each.
# shellcheck disable=SC2046,SC2086
embedded_static_before_system() {
  program fetch "$embedded/lib/libuvcurl.a" $system $(embedded_needs)
  nm fetch | grep ' T uv_loop_init$'
  ./fetch --ca "$ca" $urls
}

# shellcheck disable=SC2046,SC2086
embedded_static_after_system() {
  program fetch $system "$embedded/lib/libuvcurl.a" $(embedded_needs)
  fails grep -q ' T uv_loop_init$' <<END
$(nm fetch)
END
  fetches_static ./fetch --ca "$ca"
}

gnutls() {
  gnutls=$(file_of libcurl-gnutls.so.4)
  [ -e "$gnutls" ] || skip "no libcurl-gnutls.so.4"
}

# Debian's other libcurl, with other symbol versions, so that both are in the process and each is called.
# shellcheck disable=SC2046,SC2086
libcurl_gnutls() {
  gnutls
  program fetch -L"$prefix/lib" -luvcurl "$gnutls" -luv
  needs ./fetch libcurl-gnutls.so.4
  fails needs ./fetch libcurl.so.4
  refuses $curl ./fetch --refused $curl
}

# The plain function does not see it, the checked one does.
libcurl_gnutls_dlopen() {
  gnutls
  program dlopen "$gnutls" -luv -ldl
  refuses $curl ./dlopen --refused $curl "$prefix/lib/libuvcurl.so.0"
}

# Two libuv of one version in one image, as a plugin host may have them: uvcurl has one for itself, its names hidden, and the
# program the other. The linker merges equal literals, so that uv_version_string() gives one address for both: a check that
# compared these would pass.
# shellcheck disable=SC2046,SC2086
merged_literals() {
  archive=$embedded/lib/libuvcurl.a
  nm -g --defined-only "$archive" 2>/dev/null | awk 'NF == 3 && $3 ~ /^(uvcurl|curl)_/ { print "-u", $3 }' | sort -u >roots
  ld -r --force-group-allocation --gc-sections $(cat roots) -u uv_version_string "$archive" -o inner.o
  objcopy --redefine-sym uv_version_string=inner_uv_version_string inner.o
  objcopy -w --keep-global-symbol='uvcurl_*' --keep-global-symbol='curl_*' \
    --keep-global-symbol=inner_uv_version_string inner.o
  cat >same.c <<END
#include <stdio.h>
#include <uv.h>
const char *inner_uv_version_string(void);
__attribute__((constructor)) static void same(void) {
  printf("the copies are %s and %s at %s address\n", uv_version_string(), inner_uv_version_string(),
         uv_version_string() == inner_uv_version_string() ? "one" : "another");
}
END
  # The headers of the libuv inside: the program's is that one too.
  cflags="-isystem $embedded/include/uvcurl-embedded" program fetch same.c inner.o "$archive" $(embedded_needs)
  [ "$(nm fetch | grep -c ' [Tt] uv_loop_init$')" -eq 2 ]
  refuses $uv ./fetch --refused $uv
  grep '^the copies are \(1\.[.0-9]*\) and \1 at one address$' out
}

# The loader gives libuvcurl.so the program's libuv, although it brings libuv.so along: what libuvcurl calls is exported.
# shellcheck disable=SC2046,SC2086
static_libuv_in_program() {
  program fetch -L"$prefix/lib" -luvcurl -lcurl "$(file_of libuv_a.a)" -ldl -lpthread -lrt
  nm -D --defined-only fetch | awk '{ print $3 }' | sort >exported
  nm -D --undefined-only "$prefix/lib/libuvcurl.so" | awk '$2 ~ /^uv_/ { print $2 }' | sort >called
  [ -s called ]
  [ -z "$(comm -13 exported called)" ]
  fetches ./fetch --ca "$ca"
}

# Here it cannot: the library comes later, and the program exports nothing.
# shellcheck disable=SC2046,SC2086
static_libuv_dlopen() {
  program dlopen -lcurl "$(file_of libuv_a.a)" -ldl -lpthread -lrt
  refuses $uv ./dlopen --refused $uv "$prefix/lib/libuvcurl.so.0"
  refuses $uv ./dlopen --refused $uv --unchecked yes "$prefix/lib/libuvcurl.so.0"
}

# ... unless it exports its libuv, as Node does.
# shellcheck disable=SC2046,SC2086
static_libuv_exported() {
  program dlopen -lcurl -rdynamic -Wl,--whole-archive "$(file_of libuv_a.a)" -Wl,--no-whole-archive -ldl -lpthread -lrt
  fetches ./dlopen --ca "$ca" "$prefix/lib/libuvcurl.so.0"
}

consumer_main "$@"
