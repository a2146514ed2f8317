# Where Node's headers are, as UVCURL_NODE_INCLUDE_DIR. Used by uvcurl's own build and, installed, by uvcurlConfig.cmake. A
# Node brings them along, in ../include/node from its executable: those of its own libuv and OpenSSL among them.

macro(uvcurl_find_node)
  set(UVCURL_NODE_INCLUDE_DIR "" CACHE PATH "Where Node's node_api.h and uv.h are; empty: beside the `node` in the PATH")
  set(uvcurl_node_include "${UVCURL_NODE_INCLUDE_DIR}")
  set(uvcurl_node_error)
  if(NOT uvcurl_node_include)
    find_program(UVCURL_NODE_EXECUTABLE NAMES node nodejs)
    mark_as_advanced(UVCURL_NODE_EXECUTABLE)
    if(UVCURL_NODE_EXECUTABLE)
      execute_process(
        COMMAND "${UVCURL_NODE_EXECUTABLE}" -p "require('path').resolve(process.execPath, '../../include/node')"
        OUTPUT_VARIABLE uvcurl_node_include
        OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
  endif()
  if(NOT uvcurl_node_include)
    set(uvcurl_node_error "Node is missing: install it with its headers, or name them with -DUVCURL_NODE_INCLUDE_DIR=...")
  elseif(NOT EXISTS "${uvcurl_node_include}/node_api.h" OR NOT EXISTS "${uvcurl_node_include}/uv/version.h")
    set(uvcurl_node_error "${uvcurl_node_include} has no node_api.h and uv.h of Node: install Node's headers (`npx node-gyp \
install` fetches them), and name them with -DUVCURL_NODE_INCLUDE_DIR=...")
  endif()
endmacro()
