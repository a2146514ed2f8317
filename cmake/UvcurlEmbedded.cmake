# Embedded mode: libuv and libcurl are inside libuvcurl.a, for programs that have neither.

if(DEFINED BUILD_SHARED_LIBS AND BUILD_SHARED_LIBS)
  message(FATAL_ERROR "an embedded libuvcurl is a static library only: a shared one could not give the program the libuv and "
                      "libcurl inside it; leave BUILD_SHARED_LIBS off, or use UVCURL_EMBEDDED=OFF")
endif()
set(uvcurl_shared OFF)
find_package(Perl QUIET)
if(NOT PERL_FOUND)
  message(FATAL_ERROR "perl is missing, which lays out the embedded library: install it")
endif()

if(NOT UVCURL_TLS)
  set(UVCURL_TLS openssl)
endif()
set(features)
set(uvcurl_native_libraries rt pthread m dl)
set(uvcurl_pc_libraries -lrt -lpthread -lm -ldl)
if(UVCURL_TLS STREQUAL "openssl")
  find_package(OpenSSL QUIET)
  if(NOT OPENSSL_FOUND)
    message(FATAL_ERROR "OpenSSL is missing: install its development files (Debian, Ubuntu: libssl-dev), or use "
                        "-DUVCURL_TLS=rustls")
  endif()
  list(APPEND uvcurl_native_libraries OpenSSL::SSL OpenSSL::Crypto)
  list(PREPEND uvcurl_pc_libraries -lssl -lcrypto)
elseif(UVCURL_TLS STREQUAL "rustls")
  set(features --no-default-features --features rustls)
elseif(UVCURL_TLS STREQUAL "vendored-openssl")
  set(features --features vendored-openssl)
else()
  message(FATAL_ERROR "UVCURL_TLS is openssl, rustls or vendored-openssl, not ${UVCURL_TLS}")
endif()

set(environment "RUSTC=${UVCURL_RUSTC}" "CARGO=${UVCURL_CARGO}")
if(CMAKE_CROSSCOMPILING)
  string(REPLACE "-" "_" name "${uvcurl_rust_target}")
  set(cc "${CMAKE_C_COMPILER}")
  if(CMAKE_SYSROOT)
    # The compiler, libclang and pkg-config each have to be told where the target's headers and libraries are.
    string(APPEND cc " --sysroot=${CMAKE_SYSROOT}")
    set(pc "${CMAKE_SYSROOT}/usr/lib/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig")
    if(CMAKE_LIBRARY_ARCHITECTURE)
      string(PREPEND pc "${CMAKE_SYSROOT}/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/pkgconfig:")
    endif()
    list(APPEND environment "BINDGEN_EXTRA_CLANG_ARGS_${name}=--sysroot=${CMAKE_SYSROOT}" PKG_CONFIG_ALLOW_CROSS=1
         "PKG_CONFIG_SYSROOT_DIR=${CMAKE_SYSROOT}" "PKG_CONFIG_LIBDIR=${pc}")
  endif()
  list(APPEND environment "CC_${name}=${cc}" "AR_${name}=${CMAKE_AR}")
endif()
set(tree "${PROJECT_BINARY_DIR}/embedded")
add_custom_command(
  OUTPUT "${tree}/lib/libuvcurl.a"
  COMMAND "${CMAKE_COMMAND}" -E env ${environment} "${PERL_EXECUTABLE}" tools/embedded.pl "${tree}" ${features}
          ${uvcurl_cargo_flags}
  COMMAND "${CMAKE_COMMAND}" -E touch "${tree}/lib/libuvcurl.a"
  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
  DEPENDS ${uvcurl_rust_sources} "${PROJECT_SOURCE_DIR}/tools/embedded.pl"
  COMMENT "Compiling uvcurl with libuv and libcurl inside"
  VERBATIM)
# Of what is inside, a program sees the functions of libuv and libcurl; nghttp2 and zlib stay hidden from its own.
uvcurl_prelink("${tree}/lib/libuvcurl.a" "uvcurl_*,curl_*,uv_[a-z]*")

set(uvcurl_interface_libraries)
set(uvcurl_interface_includes "$<BUILD_INTERFACE:${tree}/include/uvcurl-embedded>"
                              "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/uvcurl-embedded>")
message(STATUS "uvcurl: embedded, TLS by ${UVCURL_TLS}")
