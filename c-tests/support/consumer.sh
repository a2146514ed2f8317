# Sourced by the scripts of c-tests/consumer, which say `cases` and define a function for each: cases in the manner of the
# C tests, of which the output is seen if they fail.
#
# A case runs under `set -ex` in a folder of its own, outside the source tree, with copies of the programs in src/.
# shellcheck shell=sh
root=$(cd "$(dirname "$0")" && while [ ! -e Cargo.toml ]; do cd ..; done && pwd)
# What `make test-consumers` has installed and built; no case writes there.
prefix=$root/build/consumers/prefix
embedded=$root/build/embedded
embedded_so=$root/build/consumers/embedded/libuvcurl.so.0
ca=${UVCURL_TEST_CERTS-}/ca.pem
urls="http://127.0.0.1:${UVCURL_TEST_NGINX_HTTP-}/100k http://127.0.0.1:${UVCURL_TEST_NGINX_HTTP-}/1k
  https://localhost:${UVCURL_TEST_NGINX_TLS-}/100k https://localhost:${UVCURL_TEST_NGINX_TLS-}/1k
  h2:https://localhost:${UVCURL_TEST_NGINX_H2-}/10m h2:https://localhost:${UVCURL_TEST_NGINX_H2-}/1k"
c_flags="-std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror"
cxx_flags="-std=c++17 -g -O1 -Wall -Wextra -Werror -pedantic"

fails() {
  if "$@"; then
    return 1
  fi
}

loaded() { # pattern
  cat ld.* | grep -o "calling init: .*/$1\.so.*" | sort -u | wc -l
}

# Runs a program on http, https and HTTP/2, all at once, and looks how many files of libuv, libcurl and libuvcurl the loader
# has brought into its process: none, where it is inside the program.
fetches_with() { # number of libuv, libcurl, libuvcurl; program, its arguments before the URLs
  files="$1 $2 $3"
  shift 3
  rm -f ld.*
  # shellcheck disable=SC2086 # a list
  LD_DEBUG=libs LD_DEBUG_OUTPUT=$PWD/ld "$@" $urls
  [ "$(loaded libuv) $(loaded 'libcurl[-a-z]*') $(loaded libuvcurl)" = "$files" ]
}

fetches() { fetches_with 1 1 1 "$@"; }
fetches_shared() { fetches "$@"; }
fetches_static() { fetches_with 1 1 0 "$@"; }

needs() { # program, library
  readelf -d "$1" | grep -q "(NEEDED).*\[$2\]"
}

consumer_main() {
  case ${1-} in
  --list) printf '%s\n' $cases ;;
  *)
    name=$(basename "$0" .sh)/$1
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp -R "$root/c-tests/consumer" "$work/src"
    echo 1..1
    # Not as a condition, which would turn `set -e` off.
    (
      set -ex
      cd "$work"
      "$1"
    ) >"$work/log" 2>&1
    status=$?
    # A case that needs what this system does not have says so last.
    if [ $status -eq 77 ]; then
      echo "ok 1 - $name # SKIP $(tail -n 1 "$work/log")"
    elif [ $status -eq 0 ]; then
      echo "ok 1 - $name"
    else
      tail -n 80 "$work/log" | sed 's/^/# /'
      echo "not ok 1 - $name"
      exit 1
    fi
    ;;
  esac
}

skip() {
  set +x
  echo "$1"
  exit 77
}
