#!/bin/sh
# examples/get.c as a user meets it. Cases in the manner of the C tests.
set -u
cases="own_server few_urls failing_url https bad_options unwritable help_and_version terminal interrupted"
root=$(cd "$(dirname "$0")/.." && pwd)
get=$root/build/examples/get
nginx=http://127.0.0.1:$UVCURL_TEST_NGINX_HTTP
work=

fails_with() { # status, then the command
  wanted=$1
  shift
  "$@" >"$work/out" 2>"$work/err"
  [ $? -eq "$wanted" ] || {
    echo "# status not $wanted: $*"
    return 1
  }
}

own_server() {
  "$get" --files 300 >"$work/out" 2>"$work/err" || return 1
  grep -q '300 of 300' "$work/out" && grep -q 'late' "$work/out"
}

few_urls() {
  mkdir "$work/d"
  "$get" --output "$work/d" $nginx/1k $nginx/100k $nginx/1k >"$work/out" 2>"$work/err" || return 1
  [ "$(wc -c <"$work/d/1k")" -eq 1024 ] && [ "$(wc -c <"$work/d/1k.1")" -eq 1024 ] &&
    [ "$(wc -c <"$work/d/100k")" -eq 102400 ] && [ "$(grep -c "$nginx" "$work/out")" -eq 3 ]
}

failing_url() {
  fails_with 1 "$get" $nginx/1k http://127.0.0.1:1/ && grep -q 'connect' "$work/out" &&
    fails_with 1 "$get" $nginx/none && grep -q 404 "$work/out"
}

https() {
  tls=https://localhost:$UVCURL_TEST_NGINX_TLS/1k
  fails_with 1 "$get" "$tls" && "$get" --cacert "$UVCURL_TEST_CERTS/ca.pem" "$tls" >/dev/null 2>&1 &&
    "$get" --insecure "$tls" >/dev/null 2>&1 &&
    "$get" --cacert "$UVCURL_TEST_CERTS/ca.pem" "https://localhost:$UVCURL_TEST_NGINX_H2/1k" >/dev/null 2>&1
}

bad_options() {
  for bad in --nonsense "--parallel 0" "--parallel x" "--parallel 10001" --parallel "--cacert /nonexistent" "--timeout -1"; do
    # shellcheck disable=SC2086
    fails_with 2 "$get" $bad $nginx/1k || return 1
    [ -s "$work/err" ] && [ "$(grep -c . "$work/err")" -le 3 ] || return 1
  done
}

unwritable() {
  fails_with 2 "$get" --output /nonexistent/dir $nginx/1k && grep -q /nonexistent/dir "$work/err" || return 1
  [ ! -e /dev/full ] || ! "$get" $nginx/1k >/dev/full 2>"$work/err" && grep -q . "$work/err"
}

help_and_version() {
  "$get" --help >"$work/out" && grep -q -- --parallel "$work/out" && "$get" --version | grep -q libcurl
}

# With a terminal there is one line that is written over and over, and gone at the end.
terminal() {
  script -qec true /dev/null >/dev/null 2>&1 </dev/null || {
    echo "ok 1 - demo/terminal # SKIP no pseudo-terminal to be had"
    exit 0
  }
  script -qec "$get --files 400" /dev/null >"$work/out" 2>&1 </dev/null || return 1
  [ "$(tr '\r' '\n' <"$work/out" | grep -c '/400')" -ge 1 ]
}

interrupted() {
  "$get" --timeout 30 http://127.0.0.1:"$UVCURL_TEST_NGINX_HTTP"/10m $(yes $nginx/10m | head -n 3000) >"$work/out" 2>"$work/err" &
  pid=$!
  # The first line on stderr: it is at work.
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s "$work/err" ] && break
    sleep 0.1
  done
  kill -INT $pid
  wait $pid
  [ $? -eq 130 ]
}

case ${1-} in
--list) printf '%s\n' $cases ;;
*)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo 1..1
  if "$1"; then
    echo "ok 1 - demo/$1"
  else
    echo "not ok 1 - demo/$1"
    cat "$work/out" "$work/err" 2>/dev/null | tail -n 20 | sed 's/^/# /'
    exit 1
  fi
  ;;
esac
