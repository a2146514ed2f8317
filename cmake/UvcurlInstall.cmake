# lib/, include/, lib/pkgconfig/uvcurl.pc, lib/cmake/uvcurl/; all of it can be moved to another prefix afterwards.
include(CMakePackageConfigHelpers)

set(package "${CMAKE_INSTALL_LIBDIR}/cmake/uvcurl")
configure_package_config_file(cmake/uvcurlConfig.cmake.in "${PROJECT_BINARY_DIR}/uvcurlConfig.cmake"
                              INSTALL_DESTINATION "${package}" NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break programs.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/uvcurlConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/uvcurlConfig.cmake" "${PROJECT_BINARY_DIR}/uvcurlConfigVersion.cmake"
        DESTINATION "${package}" COMPONENT development)
install(FILES include/uvcurl.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development)
install(FILES LICENSE LICENSE-MIT LICENSE-APACHE DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT runtime)
if(uvcurl_top_level)
  add_custom_target(
    uninstall
    COMMAND "${CMAKE_COMMAND}" "-Dmanifest=${PROJECT_BINARY_DIR}/install_manifest.txt" -P
            "${PROJECT_SOURCE_DIR}/cmake/uninstall.cmake"
    VERBATIM)
endif()

if(UVCURL_NODE)
  install(TARGETS uvcurl_node EXPORT uvcurlNodeTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}/uvcurl-node")
  install(FILES include/uvcurl_node.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(DIRECTORY "${PROJECT_BINARY_DIR}/node/include/uvcurl-node" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT uvcurlNodeTargets NAMESPACE uvcurl:: DESTINATION "${package}")
  install(FILES cmake/UvcurlNodePackage.cmake cmake/UvcurlNodeHeaders.cmake cmake/UvcurlNodeCheck.cmake
          DESTINATION "${package}")
  # For node-gyp, which takes paths relative to the file.
  set(uvcurl_gyp_include "${CMAKE_INSTALL_INCLUDEDIR}")
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}" AND NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    file(RELATIVE_PATH uvcurl_gyp_include "/p/${CMAKE_INSTALL_LIBDIR}/uvcurl-node" "/p/${CMAKE_INSTALL_INCLUDEDIR}")
  elseif(NOT IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    set(uvcurl_gyp_include "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
  endif()
  configure_file(cmake/node/uvcurl.gypi.in "${PROJECT_BINARY_DIR}/uvcurl.gypi" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/uvcurl.gypi" cmake/node/check.js DESTINATION "${CMAKE_INSTALL_LIBDIR}/uvcurl-node")
  return()
endif()

install(TARGETS ${uvcurl_targets} EXPORT uvcurlTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime NAMELINK_COMPONENT development
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development)
if(UVCURL_EMBEDDED)
  install(DIRECTORY "${PROJECT_BINARY_DIR}/embedded/include/uvcurl-embedded" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
          COMPONENT development)
endif()

install(EXPORT uvcurlTargets NAMESPACE uvcurl:: DESTINATION "${package}" COMPONENT development)
configure_file(cmake/UvcurlProgramPackage.cmake.in "${PROJECT_BINARY_DIR}/UvcurlProgramPackage.cmake" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/UvcurlProgramPackage.cmake" cmake/UvcurlDependencies.cmake DESTINATION "${package}"
        COMPONENT development)

# The way from uvcurl.pc to the prefix, which may be moved; a directory that is absolute by choice stays where it is.
set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
  set(pc_libdir "${CMAKE_INSTALL_LIBDIR}")
else()
  file(RELATIVE_PATH up "/p/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/p")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(pc_prefix "\${pcfiledir}/${up}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
endif()
if(UVCURL_EMBEDDED)
  string(REPLACE ";" " " libraries "${uvcurl_pc_libraries}")
  set(pc_lines "Cflags: -I\${includedir} -isystem \${includedir}/uvcurl-embedded\nLibs: -L\${libdir} -luvcurl\nLibs.private: ${libraries}")
else()
  # A program calls libuv and libcurl itself, and their headers are in ours: they are public. What the Rust inside needs
  # of the C library is not.
  set(pc_lines "Requires: libuv >= ${uv_floor} libcurl >= ${curl_floor}\nCflags: -I\${includedir}\nLibs: -L\${libdir} -luvcurl\nLibs.private: -lgcc_s -lrt -lpthread -lm -ldl")
endif()
configure_file(cmake/uvcurl.pc.in "${PROJECT_BINARY_DIR}/uvcurl.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/uvcurl.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
