# Sourced by the scripts of c-tests/perform, which say `cases` and define a function for each: cases in the manner of the C
# tests, of which the output is seen if they fail.
#
# A case is run once as it is, and then with each of the `ways` in which libuvcurl-perform.so replaces libcurl's own loop,
# each time in a new folder, under `set -e`. What it leaves in the folders must be the same to the byte: files, what its
# programs wrote, their exit statuses. It says how many transfers there are, and uvcurl must have reported as many.
# shellcheck shell=sh
root=$(cd "$(dirname "$0")" && while [ ! -e Cargo.toml ]; do cd ..; done && pwd)
library=${UVCURL_TEST_PERFORM_LIBRARY:-$root/build/perform/libuvcurl-perform.so}
dir=${UVCURL_TEST_PERFORM_DIR-}
web=http://127.0.0.1:${UVCURL_TEST_WEB-}
web_h2=https://localhost:${UVCURL_TEST_WEB_H2-}
mtls=https://localhost:${UVCURL_TEST_WEB_MTLS-}
scripted=http://127.0.0.1:${UVCURL_TEST_HTTP-}
scripted_tls=https://localhost:${UVCURL_TEST_HTTPS-}
squid=http://127.0.0.1:${UVCURL_TEST_SQUID-}
ftp=ftp://127.0.0.1:${UVCURL_TEST_FTP-}
www=$dir/www
ca=${UVCURL_TEST_CERTS-}/ca.pem
ways="easy thread"
# Whether the case says how many transfers it is (yes), is some (no), or is one that libcurl runs itself (real).
counts=yes

# Nothing of the person's who runs the tests.
unset http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTPS_PROXY ALL_PROXY NO_PROXY FTP_PROXY
export LC_ALL=C HOME=/nonexistent

# preloaded COMMAND ...: with the library, if this is not the run without.
preloaded() {
  if [ "$way" = plain ]; then
    "$@"
  else
    env LD_PRELOAD="${sanitizer:+$sanitizer:}$library" UVCURL_PERFORM_DRIVER="$way" UVCURL_PERFORM_LOG="$PWD.log" $wrap "$@"
  fi
}

# The transfers of the case. A program with several multi handles, or retries, does not tell; so the case does.
transfers() {
  expr "$(cat "$PWD.transfers" 2>/dev/null || echo 0)" + "$1" >"$PWD.transfers.new"
  mv "$PWD.transfers.new" "$PWD.transfers"
}

# What it finds wrong is in $work/wrong.
once() { # way, case
  way=$1
  mkdir "$work/$way"
  # Not as a condition, nor called as one, which would turn `set -e` off.
  (
    set -ex
    cd "$work/$way"
    "$2"
  ) >"$work/$way.out" 2>&1
  status=$?
  if [ $status -ne 0 ]; then
    echo "$way: failed" >"$work/wrong"
    tail -n 40 "$work/$way.out" >>"$work/wrong"
    return
  fi
  [ "$way" = plain ] && return
  if ! diff -r "$work/plain" "$work/$way" >"$work/diff" 2>&1; then
    echo "$way: not the same as without uvcurl" >"$work/wrong"
    head -n 40 "$work/diff" | cut -c 1-300 >>"$work/wrong"
    return
  fi
  reported=$(grep -c -E '^(easy|multi) ' "$work/$way.log" 2>/dev/null)
  real=$(grep -c '^real' "$work/$way.log" 2>/dev/null)
  case $counts in
  yes) [ "$(cat "$work/$way.transfers") 0" = "$reported $real" ] && return ;;
  no) [ "${reported:-0}" -gt 0 ] && [ "$real" = 0 ] && return ;;
  real) [ "$reported" = 0 ] && [ "$real" -gt 0 ] && return ;;
  esac
  echo "$way: $(cat "$work/$way.transfers" 2>/dev/null) transfers, and uvcurl reported ${reported:-none}:" >"$work/wrong"
  sort "$work/$way.log" 2>&1 | uniq -c >>"$work/wrong"
}

perform_main() {
  case ${1-} in
  --list) printf '%s\n' $cases ;;
  *)
    name=$1
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo 1..1
    for each in plain $ways; do
      once "$each" "$1"
      if [ -e "$work/wrong" ]; then
        sed 's/^/# /' "$work/wrong"
        echo "not ok 1 - $(basename "$0" .sh)/$name"
        exit 1
      fi
    done
    echo "ok 1 - $(basename "$0" .sh)/$name"
    ;;
  esac
}

# Under valgrind, say: UVCURL_TEST_PERFORM_WRAP='valgrind -q --error-exitcode=99'.
wrap=${UVCURL_TEST_PERFORM_WRAP-}
# A library that was built with AddressSanitizer needs its run-time first.
sanitizer=${UVCURL_TEST_PERFORM_SANITIZER-}
