# Code that must not compile, with the sentence the user reads; see run.py.
# One of each kind is enough for the words.
find_program(idem_clang NAMES clang++-19 clang++ NO_CMAKE_SYSTEM_PATH)
mark_as_advanced(idem_clang)
set(compilers "${CMAKE_CXX_COMPILER}")
if(idem_clang)
  list(APPEND compilers "${idem_clang}")
endif()
list(REMOVE_DUPLICATES compilers)

file(GLOB cases CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.cpp")
foreach(case IN LISTS cases)
  get_filename_component(name "${case}" NAME_WE)
  add_test(NAME compile_fail.${name} COMMAND Python3::Interpreter "${CMAKE_CURRENT_LIST_DIR}/run.py"
                                             "${PROJECT_SOURCE_DIR}/include" "${case}" ${compilers})
  set_tests_properties(compile_fail.${name} PROPERTIES TIMEOUT 900 LABELS compile_fail)
endforeach()
