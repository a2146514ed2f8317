# Run by the build, see uvcurl_prelink. archive, object, keep (patterns, comma-separated), ld, nm, objcopy, strip (or empty).

function(run)
  execute_process(
    COMMAND ${ARGN}
    RESULT_VARIABLE failed
    OUTPUT_VARIABLE out
    ERROR_VARIABLE err)
  if(failed)
    message(FATAL_ERROR "${ARGN} failed: ${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

string(REPLACE "," ";" patterns "${keep}")
run("${nm}" --defined-only -g -f posix "${archive}")
set(roots)
set(kept)
foreach(pattern ${patterns})
  string(REPLACE "*" "[A-Za-z0-9_]*" regex "${pattern}")
  string(REGEX MATCHALL "(^|\n)${regex} [TDBR] " found "${out}")
  foreach(name ${found})
    string(REGEX REPLACE "^\n?([A-Za-z0-9_]+) .*" "\\1" name "${name}")
    list(APPEND roots -u "${name}")
  endforeach()
  list(APPEND kept "--keep-global-symbol=${pattern}")
endforeach()
if(NOT roots)
  message(FATAL_ERROR "${archive} defines nothing that matches ${keep}")
endif()
# Without --force-group-allocation the groups of Rust's unwinding tables would be linked again, and clash.
run("${ld}" -r --force-group-allocation --gc-sections ${roots} "${archive}" -o "${object}.part")
# Rust's own arithmetic, which 128-bit floats of ARM need, brings its bitcode along; where binutils have LLVM's plugin, they
# read that in place of the object.
run("${objcopy}" --remove-section=.llvmbc --remove-section=.llvmcmd --wildcard ${kept} "${object}.part")
if(strip)
  run("${strip}" --strip-debug "${object}.part")
endif()
file(RENAME "${object}.part" "${object}")
