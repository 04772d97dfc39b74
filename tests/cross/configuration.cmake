# cmake -DSOURCE=.. -DBINARY=.. -DPARALLEL=N -P configuration.cmake -- OPTION...: configures, builds, runs ctest.
# REQUIRES: called with -P and the options for the inner configure after `--`.
set(options "")
set(collecting FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(collecting)
    list(APPEND options "${CMAKE_ARGV${i}}")
  elseif(CMAKE_ARGV${i} STREQUAL "--")
    set(collecting TRUE)
  endif()
endforeach()

function(step what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${what} failed: ${result}")
  endif()
endfunction()

step(configure "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${BINARY}" -G Ninja ${options})
step(build "${CMAKE_COMMAND}" --build "${BINARY}" --parallel ${PARALLEL} -- --quiet -k 0)
step(test "${CMAKE_CTEST_COMMAND}" --test-dir "${BINARY}" --output-on-failure --no-tests=error -j ${PARALLEL})
