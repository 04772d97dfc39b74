# Static checks of the sources.
set(audit "${CMAKE_CURRENT_LIST_DIR}")

function(idem_audit name)
  add_test(NAME audit.${name} COMMAND ${ARGN})
  set_tests_properties(audit.${name} PROPERTIES TIMEOUT 120 LABELS audit)
endfunction()

idem_audit(layering Python3::Interpreter "${audit}/layering.py" "${PROJECT_SOURCE_DIR}")
idem_audit(layering_can_fail Python3::Interpreter "${audit}/layering.py" --self-test)
idem_audit(versions_agree Python3::Interpreter "${audit}/versions.py" "${PROJECT_SOURCE_DIR}")
if(TARGET idem_redis_tests AND CMAKE_NM)
  idem_audit(first_use Python3::Interpreter "${audit}/first_use.py" "${CMAKE_NM}" $<TARGET_FILE:idem_redis_tests>)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  set(idem_group_include_directories "")
  foreach(target IN LISTS idem_group_targets)
    list(APPEND idem_group_include_directories
         "$<TARGET_PROPERTY:idem::${${target}_library},INTERFACE_INCLUDE_DIRECTORIES>")
  endforeach()
  idem_audit(includes Python3::Interpreter "${audit}/includes.py" "${PROJECT_SOURCE_DIR}" "${CMAKE_CXX_COMPILER}")
  idem_audit(macros Python3::Interpreter "${audit}/macros.py" "${PROJECT_SOURCE_DIR}" "${CMAKE_CXX_COMPILER}"
             "${PROJECT_BINARY_DIR}/tests/headers/generated" ${idem_group_include_directories})
endif()
