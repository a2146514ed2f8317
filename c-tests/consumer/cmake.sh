#!/bin/sh
# CMake projects that use uvcurl: an installed one by find_package, its sources by add_subdirectory and FetchContent.
set -u
cases="find_package_c_shared find_package_c_static find_package_cpp_shared find_package_cpp_static default_is_shared
  components version_too_new component_missing libuv_missing libcurl_missing config_packages uv_of_the_program static_uv
  destdir moved static_only_and_uninstall libdirs add_subdirectory fetchcontent_directory fetchcontent_archive"
. "$(dirname "$0")/../support/consumer.sh"

multiarch() { cc -print-multiarch 2>/dev/null || :; }
file_of() { cc -print-file-name="$1"; }

# project NAME OPTION ...: configures and builds src/NAME in b/.
project() {
  name=$1
  shift
  cmake -S "src/$name" -B b "$@"
  cmake --build b
}

find_package_c_shared() {
  project find_package -DCMAKE_PREFIX_PATH="$prefix" -DLANGUAGE=C -DLINKAGE=shared
  needs b/fetch libuvcurl.so.0
  fetches b/fetch --ca "$ca"
}

find_package_c_static() {
  project find_package -DCMAKE_PREFIX_PATH="$prefix" -DLANGUAGE=C -DLINKAGE=static
  fetches_static b/fetch --ca "$ca"
}

find_package_cpp_shared() {
  project find_package -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DLANGUAGE=CXX -DLINKAGE=shared
  needs b/fetch libuvcurl.so.0
  fetches b/fetch --ca "$ca"
}

find_package_cpp_static() {
  project find_package -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DLANGUAGE=CXX -DLINKAGE=static
  fetches_static b/fetch --ca "$ca"
}

default_is_shared() {
  project find_package -DCMAKE_PREFIX_PATH="$prefix"
  needs b/fetch libuvcurl.so.0
  fetches b/fetch --ca "$ca"
}

components() {
  project find_package -DCMAKE_PREFIX_PATH="$prefix" -DARGUMENTS='0.1;REQUIRED;COMPONENTS;static'
  fetches_static b/fetch --ca "$ca"
  rm -rf b
  project find_package -DCMAKE_PREFIX_PATH="$prefix" -DARGUMENTS='REQUIRED;COMPONENTS;shared;static'
  fetches b/fetch --ca "$ca"
}

# What stands in CMake's message, in one line: it breaks them where it likes.
refused() {
  fails cmake -S src/find_package -B b "$@" >out 2>&1
  tr -s '\n ' '  ' <out >line
  cat line
}

version_too_new() {
  for version in 0.2 1.0 0.0.9; do
    rm -rf b
    refused -DCMAKE_PREFIX_PATH="$prefix" -DARGUMENTS="$version;REQUIRED"
    grep -F "requested version \"$version\"" line
    grep -F 'version: 0.1' line
  done
}

component_missing() {
  refused -DCMAKE_PREFIX_PATH="$prefix" -DARGUMENTS='REQUIRED;COMPONENTS;shared;gopher'
  grep -F 'has no component `gopher`' line
  # One that need not be there.
  rm -rf b
  project find_package -DCMAKE_PREFIX_PATH="$prefix" -DARGUMENTS='REQUIRED;OPTIONAL_COMPONENTS;gopher'
}

# The development files are hidden from CMake, with all ways to find them.
libuv_missing() {
  refused -DCMAKE_PREFIX_PATH="$prefix" -DUVCURL_UV_INCLUDE_DIR=UVCURL_UV_INCLUDE_DIR-NOTFOUND \
    -DCMAKE_IGNORE_PATH="/usr/include;$(dirname "$(file_of libuv.so)");/usr/lib/$(multiarch);/lib/$(multiarch)"
  grep -F 'uvcurl needs libuv' line
  grep -F 'libuv1-dev' line
}

libcurl_missing() {
  refused -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_DISABLE_FIND_PACKAGE_CURL=ON
  grep -F 'uvcurl needs libcurl' line
}

# The CMake packages of libuv and libcurl, which some systems have and some do not: their names and targets, the
# system's files, and a mark by which they are known.
config_packages() {
  mkdir -p p/lib/cmake/libuv p/lib/cmake/CURL
  include=$(printf '#include <uv.h>\n' | cc -E - | sed -n 's,^# [0-9]* "\(/.*\)/uv\.h".*,\1,p' | head -n 1)
  cat >p/lib/cmake/libuv/libuvConfig.cmake <<END
add_library(libuv::uv SHARED IMPORTED)
set_target_properties(libuv::uv PROPERTIES IMPORTED_LOCATION "$(file_of libuv.so)"
  INTERFACE_INCLUDE_DIRECTORIES "$include" INTERFACE_COMPILE_DEFINITIONS UV_OF_A_PACKAGE)
END
  cat >p/lib/cmake/CURL/CURLConfig.cmake <<END
add_library(CURL::libcurl_shared SHARED IMPORTED)
set_target_properties(CURL::libcurl_shared PROPERTIES IMPORTED_LOCATION "$(file_of libcurl.so)"
  INTERFACE_COMPILE_DEFINITIONS CURL_OF_A_PACKAGE)
add_library(CURL::libcurl ALIAS CURL::libcurl_shared)
set(CURL_FOUND TRUE)
END
  for linkage in shared static; do
    rm -rf b
    project find_package -DCMAKE_PREFIX_PATH="$prefix;$PWD/p" -DLINKAGE=$linkage -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
    grep -e '-DUV_OF_A_PACKAGE' b/compile_commands.json
    grep -e '-DCURL_OF_A_PACKAGE' b/compile_commands.json
    fetches_$linkage b/fetch --ca "$ca"
  done
  # uvcurl itself is built on them as well.
  cmake -S "$root" -B own -DCMAKE_PREFIX_PATH="$PWD/p"
  grep -e '^libuv_DIR:PATH=.*/p/lib/cmake/libuv$' own/CMakeCache.txt
  grep -e '^CURL_DIR:PATH=.*/p/lib/cmake/CURL$' own/CMakeCache.txt
}

uv_of_the_program() {
  for target in uvcurl::uv libuv::uv uv; do
    for linkage in shared static; do
      rm -rf b
      project find_package -DCMAKE_PREFIX_PATH="$prefix" -DLINKAGE=$linkage -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
        -DUV_TARGET=$target -DUV_LIBRARY="$(file_of libuv.so)"
      grep -e '-DUV_OF_THE_PROGRAM' b/compile_commands.json
      fetches_$linkage b/fetch --ca "$ca"
    done
  done
}

# All in one file: a static libuv, and uvcurl on it.
static_uv() {
  for target in uv_a libuv::uv_a uvcurl::uv; do
    rm -rf b
    project find_package -DCMAKE_PREFIX_PATH="$prefix" -DLINKAGE=static -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
      -DUV_TARGET=$target -DUV_LIBRARY="$(file_of libuv_a.a);pthread;dl;rt"
    grep -e '-DUV_OF_THE_PROGRAM' b/compile_commands.json
    fetches_with 0 1 0 b/fetch --ca "$ca"
    nm b/fetch | grep ' T uv_loop_init$'
  done
}

destdir() {
  DESTDIR="$work/stage" cmake --install "$root/build/consumers/host" --prefix /opt/uvcurl
  (cd stage/opt/uvcurl && find . ! -type d | sort) >staged
  (cd "$prefix" && find . ! -type d | sort) >installed
  cmp staged installed
  # Not a word of where it was staged or built.
  fails grep -rlF -e "$work" -e "$root/build" stage/opt/uvcurl/lib/cmake stage/opt/uvcurl/lib/pkgconfig stage/opt/uvcurl/include
  project find_package -DCMAKE_PREFIX_PATH="$work/stage/opt/uvcurl" -DLINKAGE=static
  fetches_static b/fetch --ca "$ca"
}

moved() {
  cmake --install "$root/build/consumers/host" --prefix "$work/old place"
  mv "old place" "new place"
  for linkage in shared static; do
    rm -rf b
    project find_package -DCMAKE_PREFIX_PATH="$work/new place" -DLINKAGE=$linkage
    fetches_$linkage b/fetch --ca "$ca"
  done
}

installed() { # build directory, options
  build=$1
  shift
  cmake -S "$root" -B "$build" "$@"
  cmake --build "$build"
  cmake --install "$build" --prefix "$work/p"
}

static_only_and_uninstall() {
  installed u -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED_LIBS=OFF
  [ -z "$(find p -name '*.so*')" ]
  project find_package -DCMAKE_PREFIX_PATH="$work/p"
  fetches_static b/fetch --ca "$ca"
  rm -rf b
  refused -DCMAKE_PREFIX_PATH="$work/p" -DARGUMENTS='REQUIRED;COMPONENTS;shared'
  grep -F 'has no component `shared`' line
  # Plain cc, which has no word for a static one.
  export PKG_CONFIG_PATH="$work/p/lib/pkgconfig"
  # shellcheck disable=SC2046,SC2086
  cc $c_flags src/fetch.c $(pkg-config --cflags --libs uvcurl) -o plain
  fetches_static ./plain --ca "$ca"
  uninstalled u
}

# What is not of uvcurl stays, also in a folder that is.
uninstalled() { # build directory
  mkdir -p stage/opt/lib/cmake/uvcurl
  touch stage/opt/lib/libuv.so stage/opt/lib/cmake/uvcurl/mine
  DESTDIR="$work/stage" cmake --install "$1" --prefix /opt
  [ -e stage/opt/include/uvcurl.h ]
  DESTDIR="$work/stage" cmake --build "$1" --target uninstall
  [ "$(find stage ! -type d | sort | tr '\n' ' ')" = 'stage/opt/lib/cmake/uvcurl/mine stage/opt/lib/libuv.so ' ]
  [ ! -e stage/opt/share/doc/uvcurl ]
  rm stage/opt/lib/cmake/uvcurl/mine
  DESTDIR="$work/stage" cmake --install "$1" --prefix /opt
  DESTDIR="$work/stage" cmake --build "$1" --target uninstall
  [ "$(find stage ! -type d)" = stage/opt/lib/libuv.so ]
  [ -z "$(find stage -name '*uvcurl*')" ]
  # The list of what was installed is used up.
  fails cmake --build "$1" --target uninstall
}

libdirs() {
  for libdir in "lib/$(multiarch)" lib64; do
    rm -rf b p
    installed u -G Ninja -DCMAKE_INSTALL_LIBDIR="$libdir" -DBUILD_SHARED_LIBS=ON -DUVCURL_BINDINGS=ready
    [ -z "$(find p -name '*.a')" ]
    [ -e "p/$libdir/libuvcurl.so.0" ]
    # Debian's CMake does not look into lib64, Fedora's not into the other.
    project find_package -Duvcurl_DIR="$work/p/$libdir/cmake/uvcurl"
    fetches b/fetch --ca "$ca"
    mv p moved
    # shellcheck disable=SC2046,SC2086
    cc $c_flags src/fetch.c $(PKG_CONFIG_PATH="$work/moved/$libdir/pkgconfig" pkg-config --cflags --libs uvcurl) -o plain
    LD_LIBRARY_PATH="$work/moved/$libdir" fetches ./plain --ca "$ca"
    rm -rf moved
  done
}

add_subdirectory() {
  project add_subdirectory -DUVCURL_SOURCES="$root"
  for program in b/fetch-c-shared b/fetch-cpp-shared b/fetch-c-uvcurl; do
    needs $program libuvcurl.so.0
    fetches $program --ca "$ca"
  done
  for program in b/fetch-c-static b/fetch-cpp-static; do
    fetches_static $program --ca "$ca"
  done
  # The project's installation is the project's.
  cmake --install b --prefix "$work/p"
  [ "$(find p ! -type d)" = p/bin/fetch-c-uvcurl ]
}

fetchcontent_directory() {
  project fetchcontent -G Ninja -DUVCURL_FROM="SOURCE_DIR;$root" -DBUILD_SHARED_LIBS=ON
  for program in b/fetch-c b/fetch-cpp; do
    needs $program libuvcurl.so.0
    fetches $program --ca "$ca"
  done
}

fetchcontent_archive() {
  tar -C "$root" --exclude=./build --exclude=./target --exclude=./.git -cf uvcurl.tar .
  project fetchcontent -DUVCURL_FROM="URL;file://$work/uvcurl.tar" -DBUILD_SHARED_LIBS=OFF \
    -DUVCURL_BINDINGS=ready
  for program in b/fetch-c b/fetch-cpp; do
    fetches_static $program --ca "$ca"
  done
}

consumer_main "$@"
