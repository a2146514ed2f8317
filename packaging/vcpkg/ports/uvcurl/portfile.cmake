# vcpkg has no Rust of its own: cargo is the machine's.
find_program(CARGO cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
if(NOT CARGO)
    message(FATAL_ERROR "${PORT} needs cargo and rustc: install Rust from https://rustup.rs or the system's packages")
endif()

vcpkg_from_github(
    OUT_SOURCE_PATH SOURCE_PATH
    REPO uvcurl/uvcurl
    REF "v${VERSION}"
    SHA512 0 # of the release's archive, known when it is made
    HEAD_REF main
)

# ready: the declarations of libuv that come with the sources, so that no libclang is needed.
vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DUVCURL_BINDINGS=ready
        "-DUVCURL_CARGO=${CARGO}"
    MAYBE_UNUSED_VARIABLES
        UVCURL_BINDINGS
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/uvcurl)
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE" "${SOURCE_PATH}/LICENSE-MIT" "${SOURCE_PATH}/LICENSE-APACHE")
