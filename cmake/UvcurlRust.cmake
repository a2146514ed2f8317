# cargo, the target's name in Rust, and the object that everything is linked from.

if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  message(FATAL_ERROR "uvcurl's CMake build is made for Linux, and this is ${CMAKE_SYSTEM_NAME}; build with cargo there")
endif()

find_program(UVCURL_CARGO cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
find_program(UVCURL_RUSTC rustc HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
if(NOT UVCURL_CARGO OR NOT UVCURL_RUSTC)
  message(FATAL_ERROR "cargo and rustc are missing: install Rust from https://rustup.rs or your distribution's packages")
endif()
execute_process(
  COMMAND "${UVCURL_RUSTC}" -vV
  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
  OUTPUT_VARIABLE rustc_words
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${UVCURL_RUSTC} does not run: install Rust from https://rustup.rs or your distribution's packages")
endif()
string(REGEX REPLACE ".*release: ([0-9.]+).*" "\\1" rust_version "${rustc_words}")
string(REGEX REPLACE ".*host: ([^\n]+).*" "\\1" rust_host "${rustc_words}")
file(STRINGS "${PROJECT_SOURCE_DIR}/Cargo.toml" rust_floor REGEX "^rust-version = ")
string(REGEX REPLACE ".*\"([0-9.]+)\".*" "\\1" rust_floor "${rust_floor}")
if(rust_version VERSION_LESS rust_floor)
  message(FATAL_ERROR "uvcurl needs Rust ${rust_floor} or later and ${UVCURL_RUSTC} is ${rust_version}: update it with "
                      "rustup, or name another with -DUVCURL_CARGO=... -DUVCURL_RUSTC=...")
endif()

set(uvcurl_rust_target "${UVCURL_RUST_TARGET}")
if(NOT uvcurl_rust_target)
  if(CMAKE_CROSSCOMPILING)
    # Debian's and Rust's names agree for these; others are for the user to name.
    if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|aarch64)$")
      message(FATAL_ERROR "which Rust target is ${CMAKE_SYSTEM_PROCESSOR}? Name it with -DUVCURL_RUST_TARGET=...")
    endif()
    set(uvcurl_rust_target "${CMAKE_SYSTEM_PROCESSOR}-unknown-linux-gnu")
  else()
    set(uvcurl_rust_target "${rust_host}")
  endif()
endif()

set(UVCURL_CARGO_TARGET_DIR "" CACHE PATH "Where cargo keeps what it has compiled; empty: in the build directory")
set(uvcurl_cargo_dir "${PROJECT_BINARY_DIR}/cargo")
if(UVCURL_CARGO_TARGET_DIR)
  set(uvcurl_cargo_dir "${UVCURL_CARGO_TARGET_DIR}")
endif()
# Not with --target for the machine's own: flags in the environment then reach build scripts as well, as cargo means it.
set(uvcurl_cargo_flags --target-dir "${uvcurl_cargo_dir}")
set(uvcurl_cargo_archive "${uvcurl_cargo_dir}/release/libuvcurl.a")
if(NOT uvcurl_rust_target STREQUAL rust_host)
  list(APPEND uvcurl_cargo_flags --target "${uvcurl_rust_target}")
  set(uvcurl_cargo_archive "${uvcurl_cargo_dir}/${uvcurl_rust_target}/release/libuvcurl.a")
endif()
separate_arguments(more UNIX_COMMAND "${UVCURL_CARGO_FLAGS}")
list(APPEND uvcurl_cargo_flags ${more})

file(GLOB_RECURSE uvcurl_rust_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/*.rs")
list(APPEND uvcurl_rust_sources "${PROJECT_SOURCE_DIR}/Cargo.toml" "${PROJECT_SOURCE_DIR}/Cargo.lock"
     "${PROJECT_SOURCE_DIR}/build.rs" "${PROJECT_SOURCE_DIR}/.cargo/config.toml")

# uvcurl_prelink(ARCHIVE KEEP): the rule for uvcurl_object, one object with all of ARCHIVE that the names matching
# KEEP need, and those names alone visible. As it comes from rustc, the archive defines the whole of Rust's standard
# library under its own names, and clashes with any other Rust library in a program.
set(uvcurl_object "${PROJECT_BINARY_DIR}/uvcurl.o")
if(NOT CMAKE_OBJCOPY OR NOT CMAKE_LINKER OR NOT CMAKE_NM OR NOT CMAKE_STRIP)
  message(FATAL_ERROR "ld, nm, objcopy and strip are missing: install GNU binutils")
endif()
function(uvcurl_prelink archive keep)
  add_custom_command(
    OUTPUT "${uvcurl_object}"
    COMMAND
      "${CMAKE_COMMAND}" "-Darchive=${archive}" "-Dobject=${uvcurl_object}" "-Dkeep=${keep}" "-Dld=${CMAKE_LINKER}"
      "-Dnm=${CMAKE_NM}" "-Dobjcopy=${CMAKE_OBJCOPY}" "-Dstrip=$<IF:$<CONFIG:Debug,RelWithDebInfo>,,${CMAKE_STRIP}>" -P
      "${PROJECT_SOURCE_DIR}/cmake/prelink.cmake"
    DEPENDS "${archive}" "${PROJECT_SOURCE_DIR}/cmake/prelink.cmake"
    COMMENT "Linking libuvcurl into one object"
    VERBATIM)
  # Both libraries are made of the object; one target makes it, so that two builds of it never run side by side.
  add_custom_target(uvcurl_cargo DEPENDS "${uvcurl_object}")
endfunction()
