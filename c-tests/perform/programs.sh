#!/bin/sh
# Programs with libcurl inside: CMake's downloads, and one of the tests' own that goes through what libcurl promises.
set -u
. "$(dirname "$0")/common.sh"
program=$root/build/perform/program
counts=no
cases="cmake_download cmake_upload cmake_failures $("$program" --list | sed 's/^/program_/' | tr '\n' ' ')"

# script STATUS: what is on stdin, by CMake.
script() {
  cat >script.cmake
  got=0
  { set +x; } 2>/dev/null
  preloaded cmake -P script.cmake >out 2>err || got=$?
  set -x
  cat err
  [ $got -eq "$1" ]
}

cmake_download() {
  sum=$(sha256sum "$www/10m" | cut -d ' ' -f 1)
  script 0 <<END
file(DOWNLOAD $web/10m a EXPECTED_HASH SHA256=$sum STATUS status)
message("\${status}")
file(DOWNLOAD $web/1k b STATUS status SHOW_PROGRESS)
message("\${status}")
file(DOWNLOAD $web_h2/100k c STATUS status TLS_VERIFY ON TLS_CAINFO $ca)
message("\${status}")
file(DOWNLOAD $ftp/100k d STATUS status)
message("\${status}")
END
  cmp a "$www/10m"
  cmp c "$www/100k"
  cmp d "$www/100k"
}

cmake_upload() {
  script 0 <<END
file(UPLOAD $www/10m $web/upload/cmake STATUS status)
message("\${status}")
END
  cmp "$www/upload/cmake" "$www/10m"
  rm "$www/upload/cmake"
}

cmake_failures() {
  script 0 <<END
foreach(url $web/none http://127.0.0.1:$UVCURL_TEST_REFUSED/ $web_h2/1k $scripted/short/10/20)
  file(DOWNLOAD \${url} a STATUS status TLS_VERIFY ON)
  list(GET status 0 number)
  message("\${number}")
endforeach()
file(DOWNLOAD http://127.0.0.1:$UVCURL_TEST_SILENT/ b STATUS status TIMEOUT 1)
list(GET status 0 number)
message("\${number}")
END
  tr '\n' ' ' <err | grep -x '22 7 60 18 28 '
  script 1 <<END
file(DOWNLOAD $web/1k c EXPECTED_HASH SHA256=0000000000000000000000000000000000000000000000000000000000000000)
END
}

part() {
  export UVCURL_TEST_PROGRAM_BASE="$scripted"
  { set +x; } 2>/dev/null
  got=0
  preloaded "$program" "$1" >out 2>err || got=$?
  set -x
  cat out err
  [ $got -eq 0 ]
}
for each in $("$program" --list); do
  eval "program_$each() { part $each; }"
done

# A connection that a thread's handles share is not what libcurl promises of each.
case ${1-} in
program_connections | program_sockets) ways=easy ;;
program_left_alone) counts=real ;;
esac
perform_main "$@"
