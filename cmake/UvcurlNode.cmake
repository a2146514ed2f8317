# Node mode: libuvcurl_node.a, for addons that run on Node's own loop. libuv is Node's and stays undefined, and so is
# OpenSSL by default; libcurl is inside.
include(cmake/UvcurlNodeHeaders.cmake)

if(UVCURL_EMBEDDED)
  message(FATAL_ERROR "UVCURL_NODE and UVCURL_EMBEDDED exclude each other: an embedded libuvcurl has a libuv inside, which "
                      "cannot run on Node's loop")
endif()
if(DEFINED BUILD_SHARED_LIBS AND BUILD_SHARED_LIBS)
  message(FATAL_ERROR "uvcurl for Node is a static library only, so that nothing of the libcurl inside meets another copy: "
                      "leave BUILD_SHARED_LIBS off")
endif()
find_package(Perl QUIET)
if(NOT PERL_FOUND)
  message(FATAL_ERROR "perl is missing, which lays out the library: install it")
endif()
uvcurl_find_node()
if(uvcurl_node_error)
  message(FATAL_ERROR "${uvcurl_node_error}")
endif()

set(uv_version)
file(STRINGS "${uvcurl_node_include}/uv/version.h" lines REGEX "^#define UV_VERSION_(MAJOR|MINOR|PATCH) ")
foreach(line ${lines})
  string(REGEX MATCH "[0-9]+$" number "${line}")
  list(APPEND uv_version ${number})
endforeach()
string(REPLACE ";" "." uv_version "${uv_version}")
if(uv_version VERSION_LESS 1.44.0)
  message(FATAL_ERROR "uvcurl needs libuv 1.44.0 or later, and ${uvcurl_node_include}/uv.h is of ${uv_version}: use Node 18 "
                      "or later")
endif()

# Ready bindings, each number held against Node's uv.h.
set(ready "${PROJECT_SOURCE_DIR}/cmake/bindings/${uvcurl_rust_target}")
if(NOT EXISTS "${ready}/bindings.rs")
  message(FATAL_ERROR "there are no ready bindings for ${uvcurl_rust_target}, which a build for Node needs: add the target "
                      "to tests/bindings.rs and run `make bindings`")
endif()
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
try_compile(fit "${PROJECT_BINARY_DIR}/check" "${ready}/check.c"
            CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${uvcurl_node_include}" COMPILE_DEFINITIONS -D_GNU_SOURCE)
unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
if(NOT fit)
  message(FATAL_ERROR "the ready bindings for ${uvcurl_rust_target} do not fit ${uvcurl_node_include}/uv.h: is it Node's "
                      "own? If so, report it")
endif()

# ---- TLS ----

if(NOT UVCURL_TLS)
  set(UVCURL_TLS openssl-node)
endif()
set(features --features node)
set(cargo_environment --unset=OPENSSL_DIR --unset=OPENSSL_NO_VENDOR UVCURL_EXPECT_UV=host)
set(openssl_include)
if(UVCURL_TLS STREQUAL "openssl-node")
  set(openssl_include "${uvcurl_node_include}")
  if(NOT EXISTS "${openssl_include}/openssl/ssl.h")
    message(FATAL_ERROR "${openssl_include} has no openssl/ssl.h, so this Node has no OpenSSL of its own for addons: use "
                        "-DUVCURL_TLS=rustls or openssl-static")
  endif()
  if(UVCURL_NODE_EXECUTABLE AND NOT UVCURL_NODE_INCLUDE_DIR)
    execute_process(
      COMMAND "${UVCURL_NODE_EXECUTABLE}" -p "process.versions.openssl + (process.config.variables.node_use_openssl ? '' : ' none')"
      OUTPUT_VARIABLE openssl_of_node
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(openssl_of_node MATCHES "none|undefined")
      message(FATAL_ERROR "${UVCURL_NODE_EXECUTABLE} was built without OpenSSL: use -DUVCURL_TLS=rustls or openssl-static")
    endif()
  endif()
elseif(UVCURL_TLS STREQUAL "openssl-static")
  set(OPENSSL_USE_STATIC_LIBS ON)
  find_package(OpenSSL QUIET)
  if(NOT OPENSSL_FOUND)
    message(FATAL_ERROR "libssl.a and libcrypto.a are missing: install OpenSSL's development files (Debian, Ubuntu: "
                        "libssl-dev), or use another -DUVCURL_TLS=...")
  endif()
  set(openssl_include "${OPENSSL_INCLUDE_DIR}")
elseif(UVCURL_TLS STREQUAL "rustls")
  set(features --features node-rustls)
else()
  message(FATAL_ERROR "UVCURL_TLS for Node is openssl-node, openssl-static or rustls, not ${UVCURL_TLS}")
endif()
if(openssl_include)
  # A directory with nothing but openssl/ in it: Node's also has a zlib.h, of another zlib than the one inside.
  # In cargo's directory, for crates are compiled again when its name changes.
  string(SHA256 hash "${openssl_include}")
  string(SUBSTRING "${hash}" 0 16 hash)
  set(openssl "${uvcurl_cargo_dir}/${UVCURL_TLS}-${hash}")
  file(MAKE_DIRECTORY "${openssl}/include" "${openssl}/lib")
  if(IS_DIRECTORY "${openssl}/include/openssl" AND NOT IS_SYMLINK "${openssl}/include/openssl")
    file(REMOVE_RECURSE "${openssl}/include/openssl")
  endif()
  file(CREATE_LINK "${openssl_include}/openssl" "${openssl}/include/openssl" SYMBOLIC)
  list(APPEND cargo_environment "OPENSSL_INCLUDE_DIR=${openssl}/include")
  if(UVCURL_TLS STREQUAL "openssl-static")
    get_filename_component(directory "${OPENSSL_SSL_LIBRARY}" DIRECTORY)
    list(APPEND cargo_environment OPENSSL_STATIC=1 "OPENSSL_LIB_DIR=${directory}" --unset=OPENSSL_LIBS)
    # Debian keeps what differs by architecture apart.
    if(CMAKE_LIBRARY_ARCHITECTURE AND EXISTS "${OPENSSL_INCLUDE_DIR}/${CMAKE_LIBRARY_ARCHITECTURE}/openssl")
      file(REMOVE_RECURSE "${openssl}/include/openssl")
      file(COPY "${OPENSSL_INCLUDE_DIR}/openssl" "${OPENSSL_INCLUDE_DIR}/${CMAKE_LIBRARY_ARCHITECTURE}/openssl"
           DESTINATION "${openssl}/include")
    endif()
  else()
    # No library at all: the names stay open, and Node's executable has them.
    list(APPEND cargo_environment OPENSSL_STATIC=0 "OPENSSL_LIB_DIR=${openssl}/lib" OPENSSL_LIBS=)
  endif()
endif()

# ---- cargo ----

set(config "\
[target.${uvcurl_rust_target}.uv]
rustc-env = { OUT_DIR = \"${ready}\" }
include = \"${uvcurl_node_include}\"
")
string(SHA256 hash "${config}")
string(SUBSTRING "${hash}" 0 16 hash)
set(cargo_config "${PROJECT_BINARY_DIR}/cargo-${hash}.toml")
file(WRITE "${cargo_config}" "${config}")

if(CMAKE_CROSSCOMPILING)
  string(REPLACE "-" "_" name "${uvcurl_rust_target}")
  list(APPEND cargo_environment "CC_${name}=${CMAKE_C_COMPILER}" "AR_${name}=${CMAKE_AR}")
endif()
set(tree "${PROJECT_BINARY_DIR}/node")
set(archive "${tree}/lib/uvcurl-node/libuvcurl_node.a")
add_custom_command(
  OUTPUT "${archive}"
  COMMAND "${CMAKE_COMMAND}" -E env ${cargo_environment} "RUSTC=${UVCURL_RUSTC}" "CARGO=${UVCURL_CARGO}" "${PERL_EXECUTABLE}"
          tools/embedded.pl --node "${tree}" --no-default-features ${features} --config "${cargo_config}" ${uvcurl_cargo_flags}
  COMMAND "${CMAKE_COMMAND}" -E touch "${archive}"
  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
  DEPENDS ${uvcurl_rust_sources} "${PROJECT_SOURCE_DIR}/tools/embedded.pl" "${cargo_config}"
  COMMENT "Compiling uvcurl on Node's libuv ${uv_version}, with libcurl inside"
  VERBATIM)
# An addon calls uvcurl and libcurl; nghttp2, zlib and Rust's library are nobody's business.
uvcurl_prelink("${archive}" "uvcurl_*,curl_*")

# ---- the library ----

uvcurl_library(uvcurl_node STATIC)
set_target_properties(uvcurl_node PROPERTIES OUTPUT_NAME uvcurl_node EXPORT_NAME node)
target_include_directories(
  uvcurl_node SYSTEM INTERFACE "$<BUILD_INTERFACE:${tree}/include/uvcurl-node>" "$<BUILD_INTERFACE:${uvcurl_node_include}>"
                               "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/uvcurl-node>")
# Names of the libraries inside an addon must not be seen by others, nor replaced by Node's of the same name.
target_link_options(uvcurl_node INTERFACE "LINKER:--exclude-libs,ALL")
target_link_libraries(uvcurl_node INTERFACE rt pthread m dl)
add_library(uvcurl::node ALIAS uvcurl_node)
message(STATUS "uvcurl: for Node, on libuv ${uv_version} (${uvcurl_node_include}), TLS by ${UVCURL_TLS}")
