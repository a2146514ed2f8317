# cpack -G TGZ: one archive for any prefix. cpack -G DEB: libuvcurl0 and libuvcurl-dev, for a build with
# -DCMAKE_INSTALL_PREFIX=/usr, which puts libraries where Debian has them.

set(CPACK_PACKAGE_NAME uvcurl)
set(CPACK_PACKAGE_VENDOR "uvcurl")
set(CPACK_PACKAGE_CONTACT "The uvcurl developers <uvcurl@users.noreply.github.com>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "libcurl transfers on a libuv loop")
set(CPACK_PACKAGE_DESCRIPTION
    "uvcurl runs libcurl transfers on a libuv loop that the program already has, and reports each result in a callback.")
set(CPACK_PACKAGE_HOMEPAGE_URL "https://github.com/uvcurl/uvcurl")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_PACKAGE_CHECKSUM SHA256)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR TGZ)
set(CPACK_COMPONENTS_ALL development)
set(CPACK_SYSTEM_NAME "linux-${CMAKE_SYSTEM_PROCESSOR}")
if(uvcurl_shared)
  list(PREPEND CPACK_COMPONENTS_ALL runtime)
elseif(UVCURL_EMBEDDED)
  set(CPACK_SYSTEM_NAME "${CPACK_SYSTEM_NAME}-embedded")
endif()

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME "libuvcurl${PROJECT_VERSION_MAJOR}")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "${CPACK_PACKAGE_DESCRIPTION_SUMMARY} (shared library)\n ${CPACK_PACKAGE_DESCRIPTION}")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
# What programs that link the library depend on: a minor version may break them before 1.0.
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libuvcurl-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION
    "${CPACK_PACKAGE_DESCRIPTION_SUMMARY} (development files)\n ${CPACK_PACKAGE_DESCRIPTION}")
# The libcurl with OpenSSL and no other: a program on libcurl-gnutls would have two libcurls.
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libuv1-dev (>= ${uv_floor}), libcurl4-openssl-dev (>= ${curl_floor})")
if(uvcurl_shared)
  string(PREPEND CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
         "libuvcurl${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION}), ")
endif()
if(UVCURL_EMBEDDED)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libuvcurl-embedded-dev)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS libssl-dev)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_CONFLICTS libuvcurl-dev)
endif()
include(CPack)
