# Code that must not compile, with the sentence the user reads; see run.py.
find_program(idem_clang_14 clang++-14)
find_program(idem_clang_19 clang++-19)
mark_as_advanced(idem_clang_14 idem_clang_19)
set(compilers "${CMAKE_CXX_COMPILER}")
foreach(compiler IN ITEMS ${idem_clang_14} ${idem_clang_19})
  if(compiler)
    list(APPEND compilers "${compiler}")
  endif()
endforeach()
list(REMOVE_DUPLICATES compilers)

file(GLOB cases CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.cpp")
foreach(case IN LISTS cases)
  get_filename_component(name "${case}" NAME_WE)
  add_test(NAME compile_fail.${name} COMMAND Python3::Interpreter "${CMAKE_CURRENT_LIST_DIR}/run.py"
                                             "${PROJECT_SOURCE_DIR}/include" "${case}" ${compilers})
  set_tests_properties(compile_fail.${name} PROPERTIES TIMEOUT 300 LABELS compile_fail)
endforeach()
