# Host mode: on the libuv and libcurl that are there. CMake finds them; cargo gets nothing but their headers, so that no
# crate can look for, or compile, another copy.
include(cmake/UvcurlDependencies.cmake)
enable_language(C)

set(uv_floor 1.44.0)
set(curl_floor 7.84.0)

uvcurl_find_uv()
if(NOT TARGET uvcurl::uv)
  message(FATAL_ERROR "libuv is missing: install its development files (Debian, Ubuntu: libuv1-dev), name it with "
                      "-DUVCURL_UV_INCLUDE_DIR=... -DUVCURL_UV_LIBRARY=..., or build with -DUVCURL_EMBEDDED=ON")
endif()
uvcurl_find_curl()
if(NOT TARGET uvcurl::curl)
  message(FATAL_ERROR "libcurl is missing: install its development files (Debian, Ubuntu: libcurl4-openssl-dev), or build "
                      "with -DUVCURL_EMBEDDED=ON")
endif()

# The include directories of a target and of what it links, without what is meant for its installation.
function(uvcurl_includes out target)
  set(found)
  get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(includes)
    string(REGEX REPLACE "\\$<BUILD_INTERFACE:([^>]*)>" "\\1" includes "${includes}")
    string(GENEX_STRIP "${includes}" includes)
    list(APPEND found ${includes})
  endif()
  get_target_property(libraries ${target} INTERFACE_LINK_LIBRARIES)
  if(libraries)
    foreach(library ${libraries})
      if(TARGET "${library}")
        uvcurl_includes(more "${library}")
        list(APPEND found ${more})
      endif()
    endforeach()
  endif()
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# Where `file` is: in the directories of the target, or where the compiler looks by itself.
function(uvcurl_header out target file)
  uvcurl_includes(directories ${target})
  unset(place)
  unset(place CACHE)
  if(directories)
    find_path(place ${file} PATHS ${directories} NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
  endif()
  if(NOT place)
    unset(place CACHE)
    find_path(place ${file})
  endif()
  set(${out} "${place}" PARENT_SCOPE)
  unset(place CACHE)
endfunction()

uvcurl_header(uv_include uvcurl::uv uv.h)
uvcurl_header(curl_include uvcurl::curl curl/curl.h)
if(NOT uv_include OR NOT EXISTS "${uv_include}/uv/version.h")
  message(FATAL_ERROR "uv.h of the libuv that was found is missing: install libuv's development files (Debian, Ubuntu: "
                      "libuv1-dev)")
endif()
if(NOT curl_include OR NOT EXISTS "${curl_include}/curl/curlver.h")
  message(FATAL_ERROR "curl/curl.h of the libcurl that was found is missing: install libcurl's development files (Debian, "
                      "Ubuntu: libcurl4-openssl-dev)")
endif()

if(EXISTS "${uv_include}/node_api.h" AND EXISTS "${uv_include}/node_version.h")
  message(FATAL_ERROR "${uv_include}/uv.h is Node's, and the libcurl is the system's (${curl_include}), which would run half on "
                      "its own OpenSSL and half on Node's inside an addon: build with -DUVCURL_NODE=ON")
endif()

set(uv_version)
file(STRINGS "${uv_include}/uv/version.h" lines REGEX "^#define UV_VERSION_(MAJOR|MINOR|PATCH) ")
foreach(line ${lines})
  string(REGEX MATCH "[0-9]+$" number "${line}")
  list(APPEND uv_version ${number})
endforeach()
string(REPLACE ";" "." uv_version "${uv_version}")
file(STRINGS "${curl_include}/curl/curlver.h" line REGEX "^#define LIBCURL_VERSION \"")
string(REGEX REPLACE ".*\"([0-9.]+).*" "\\1" curl_version "${line}")

if(uv_version VERSION_LESS uv_floor)
  message(FATAL_ERROR "uvcurl needs libuv ${uv_floor} or later, and ${uv_include}/uv.h is of ${uv_version}: install a newer "
                      "one, or build with -DUVCURL_EMBEDDED=ON")
endif()
if(curl_version VERSION_LESS curl_floor)
  message(FATAL_ERROR "uvcurl needs libcurl ${curl_floor} or later, and ${curl_include}/curl/curl.h is of ${curl_version}: "
                      "install a newer one, or build with -DUVCURL_EMBEDDED=ON")
endif()

# Headers of one libuv and the library of another compile well and go wrong at run time. Libraries that this build makes
# itself are not there to ask yet, nor do a cross build's run here.
uvcurl_first_target(in_tree uv uv_a libuv libcurl libcurl_shared libcurl_static)
if(in_tree)
  get_target_property(imported ${in_tree} IMPORTED)
  if(imported)
    set(in_tree "")
  endif()
endif()
if(NOT CMAKE_CROSSCOMPILING AND NOT in_tree)
  set(checked "${uv_include};${curl_include};${UVCURL_UV_LIBRARY}")
  if(NOT "${UVCURL_LIBRARIES_CHECKED}" STREQUAL "${checked}")
    set(UVCURL_TRY_UV_DIRS "${uv_include}")
    file(WRITE "${PROJECT_BINARY_DIR}/check.c" "
#include <stdio.h>
#include <curl/curl.h>
#include <uv.h>
int main(void) {
  curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
  printf(\"%u.%u.%u;%u.%u.%u\", uv_version() >> 16, (uv_version() >> 8) & 255, uv_version() & 255,
         info->version_num >> 16, (info->version_num >> 8) & 255, info->version_num & 255);
  return 0;
}
")
    try_run(
      ran compiled "${PROJECT_BINARY_DIR}/check" "${PROJECT_BINARY_DIR}/check.c"
      LINK_LIBRARIES uvcurl::uv uvcurl::curl
      COMPILE_OUTPUT_VARIABLE compile_output
      RUN_OUTPUT_VARIABLE found)
    if(NOT compiled)
      message(FATAL_ERROR "a program on the libuv in ${uv_include} and the libcurl in ${curl_include} does not link; "
                          "the compiler says:\n${compile_output}")
    endif()
    if(NOT ran STREQUAL "0")
      message(FATAL_ERROR "a program on the libuv in ${uv_include} and the libcurl in ${curl_include} links but does not "
                          "run: their shared libraries are not where the loader looks; set LD_LIBRARY_PATH or run ldconfig")
    endif()
    if(NOT found STREQUAL "${uv_version};${curl_version}")
      list(GET found 0 uv_found)
      list(GET found 1 curl_found)
      message(FATAL_ERROR "the headers are of libuv ${uv_version} (${uv_include}) and libcurl ${curl_version} "
                          "(${curl_include}), but the libraries that a program loads are libuv ${uv_found} and libcurl "
                          "${curl_found}: remove the wrong copy, or name the right one with CMAKE_PREFIX_PATH")
    endif()
    set(UVCURL_LIBRARIES_CHECKED "${checked}" CACHE INTERNAL "")
  endif()
endif()
message(STATUS "uvcurl: on libuv ${uv_version} (${uv_include}) and libcurl ${curl_version} (${curl_include})")

# A static libuv would be copied into the shared library, and the program has the other copy.
if(uvcurl_shared)
  uvcurl_first_target(static_uv uv_a libuv::uv_a)
  get_target_property(uv_libraries uvcurl::uv INTERFACE_LINK_LIBRARIES)
  if("${uv_libraries}" MATCHES "uv_a|libuv[^;]*\\.a$")
    if(DEFINED BUILD_SHARED_LIBS AND BUILD_SHARED_LIBS)
      message(FATAL_ERROR "a shared libuvcurl on a static libuv would put a second libuv into every program: build with "
                          "-DBUILD_SHARED_LIBS=OFF, or give it a shared libuv")
    endif()
    message(STATUS "uvcurl: libuv is static, so libuvcurl is built static only")
    set(uvcurl_shared OFF)
  endif()
endif()

# ---- what cargo is told ----

# Build scripts that look for libcurl and zlib are not run: CMake has found the one, and nothing here calls the other.
set(config "\
[target.${uvcurl_rust_target}.curl]
include = \"${curl_include}\"
mode = \"host\"
[target.${uvcurl_rust_target}.z]
mode = \"host\"
")
set(cargo_environment UVCURL_EXPECT_UV=host)

set(bindings "${UVCURL_BINDINGS}")
set(ready "${PROJECT_SOURCE_DIR}/cmake/bindings/${uvcurl_rust_target}")
if(CMAKE_CROSSCOMPILING AND bindings STREQUAL "bindgen")
  # libuv-sys2 does not look for libuv when it is cross-compiled.
  set(bindings ready)
endif()
if(bindings STREQUAL "ready")
  if(NOT EXISTS "${ready}/bindings.rs")
    message(FATAL_ERROR "there are no ready bindings for ${uvcurl_rust_target}: build with -DUVCURL_BINDINGS=bindgen")
  endif()
  # Each number in them, against the uv.h that is here.
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  try_compile(fit "${PROJECT_BINARY_DIR}/check" "${ready}/check.c"
              CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${uv_include}" COMPILE_DEFINITIONS -D_GNU_SOURCE)
  unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
  if(NOT fit)
    message(FATAL_ERROR "the ready bindings for ${uvcurl_rust_target} do not fit ${uv_include}/uv.h: build with "
                        "-DUVCURL_BINDINGS=bindgen, and report it")
  endif()
  string(APPEND config "\
[target.${uvcurl_rust_target}.uv]
rustc-env = { OUT_DIR = \"${ready}\" }
include = \"${uv_include}\"
")
elseif(bindings STREQUAL "bindgen")
  find_package(PkgConfig QUIET)
  if(NOT PKG_CONFIG_FOUND)
    message(FATAL_ERROR "pkg-config is missing: install it, or use -DUVCURL_BINDINGS=ready")
  endif()
  # Where bindgen looks, near enough.
  set(directories "$ENV{LIBCLANG_PATH}" /usr/lib/llvm*/lib /usr/lib /usr/lib64 /usr/lib/*-linux-* /usr/local/lib
                  /usr/lib64/llvm*/lib*)
  set(UVCURL_LIBCLANG_DIRS "${directories}" CACHE STRING "Where to look for libclang, which reads uv.h")
  mark_as_advanced(UVCURL_LIBCLANG_DIRS)
  list(TRANSFORM UVCURL_LIBCLANG_DIRS APPEND "/libclang[.-]*so*" OUTPUT_VARIABLE patterns)
  file(GLOB libclang ${patterns})
  list(FILTER libclang EXCLUDE REGEX "libclang-cpp")
  if(NOT libclang)
    message(FATAL_ERROR "libclang is missing, which reads uv.h: install it (Debian, Ubuntu: libclang-dev), name its folder "
                        "with the environment variable LIBCLANG_PATH, or use -DUVCURL_BINDINGS=ready")
  endif()
  # libuv-sys2 takes a libuv from pkg-config only if it is of its own version, so this one claims to be. It notices a
  # change of the path, not of the file, hence the hash.
  file(STRINGS "${PROJECT_SOURCE_DIR}/Cargo.toml" crate REGEX "^libuv-sys2 = ")
  string(REGEX REPLACE ".*\"([0-9.]+)\".*" "\\1" crate "${crate}")
  set(pc "\
# Made by uvcurl's CMake build: the declarations of libuv ${uv_version}; CMake links the library.
Name: libuv
Description: the host's libuv, under the version that libuv-sys2 asks for
Version: ${crate}
Cflags: -I\"${uv_include}\"
Libs:
")
  string(SHA256 hash "${pc}")
  string(SUBSTRING "${hash}" 0 16 hash)
  set(shim "${uvcurl_cargo_dir}/uvcurl/${hash}")
  file(WRITE "${shim}/libuv.pc" "${pc}")
  set(path "${shim}")
  if(NOT "$ENV{PKG_CONFIG_PATH}" STREQUAL "")
    string(APPEND path ":$ENV{PKG_CONFIG_PATH}")
  endif()
  list(APPEND cargo_environment "PKG_CONFIG_PATH=${path}" "PKG_CONFIG=${PKG_CONFIG_EXECUTABLE}")
else()
  message(FATAL_ERROR "UVCURL_BINDINGS is bindgen or ready, not ${UVCURL_BINDINGS}")
endif()

string(SHA256 hash "${config}")
string(SUBSTRING "${hash}" 0 16 hash)
set(cargo_config "${uvcurl_cargo_dir}/uvcurl/${hash}.toml")
file(WRITE "${cargo_config}" "${config}")

add_custom_command(
  OUTPUT "${uvcurl_cargo_archive}"
  COMMAND "${CMAKE_COMMAND}" -E env --unset=LIBUV_NO_PKG_CONFIG ${cargo_environment} "RUSTC=${UVCURL_RUSTC}" "${UVCURL_CARGO}" rustc
          --locked --release --lib --crate-type staticlib --no-default-features --config "${cargo_config}" ${uvcurl_cargo_flags}
  # cargo leaves an archive that is up to date as old as it is.
  COMMAND "${CMAKE_COMMAND}" -E touch "${uvcurl_cargo_archive}"
  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
  DEPENDS ${uvcurl_rust_sources} "${cargo_config}"
  COMMENT "Compiling uvcurl on libuv ${uv_version} and libcurl ${curl_version}"
  VERBATIM)
uvcurl_prelink("${uvcurl_cargo_archive}" "uvcurl_*")

set(uvcurl_interface_libraries uvcurl::uv uvcurl::curl)
set(uvcurl_interface_includes)
# What `rustc --print native-static-libs` names on Linux, without the two above and libgcc_s, which every driver links.
set(uvcurl_native_libraries rt pthread m dl)
