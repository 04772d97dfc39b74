# How others take idem into their builds: every way is tried by a small project of its own. See run.py.
set(packaging "${CMAKE_CURRENT_LIST_DIR}")

function(idem_packaging name)
  add_test(
    NAME packaging.${name}
    COMMAND_EXPAND_LISTS
    COMMAND Python3::Interpreter "${packaging}/run.py" ${name} "--source=${PROJECT_SOURCE_DIR}"
            "--scratch=${PROJECT_BINARY_DIR}/packaging/${name}" "--cmake=${CMAKE_COMMAND}"
            "--compiler=${CMAKE_CXX_COMPILER}" "--launcher=${CMAKE_CXX_COMPILER_LAUNCHER}"
            "--version=${PROJECT_VERSION}" $<$<TARGET_EXISTS:idem::redis>:--redis>
            $<$<TARGET_EXISTS:idem::redis_tls>:--redis-tls>
            $<$<TARGET_EXISTS:idem::onceonly>:--onceonly>)
  set_tests_properties(packaging.${name} PROPERTIES TIMEOUT 300 LABELS packaging)
  foreach(program IN LISTS ARGN)
    find_program(idem_program_${program} ${program} NO_CMAKE_SYSTEM_PATH)
    mark_as_advanced(idem_program_${program})
    if(NOT idem_program_${program})
      message(STATUS "packaging.${name} is disabled: no ${program}")
      set_tests_properties(packaging.${name} PROPERTIES DISABLED ON)
    endif()
  endforeach()
endfunction()

idem_packaging(add_subdirectory)
idem_packaging(find_package)
idem_packaging(find_package_too_new)
idem_packaging(find_package_32_bit)
idem_packaging(parent_that_exports)
idem_packaging(parent_that_installs)
idem_packaging(pkg_config pkg-config)
idem_packaging(copied_headers)
idem_packaging(meson meson)
idem_packaging(meson_subproject meson)
idem_packaging(meson_install meson pkg-config)
