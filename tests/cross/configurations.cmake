# The unit tests once more, with other compilers and under sanitizers: each a build tree of its own below this one.

set(idem_launcher "")
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(idem_launcher "-DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}")
endif()

include(ProcessorCount)
ProcessorCount(idem_processors)
if(idem_processors EQUAL 0)
  set(idem_processors 2)
endif()

# idem_configuration(NAME COMPILER option...): where the compiler is missing the test is shown as disabled.
function(idem_configuration name compiler)
  add_test(
    NAME configuration.${name}
    COMMAND
      "${CMAKE_COMMAND}" "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DBINARY=${PROJECT_BINARY_DIR}/${name}"
      "-DPARALLEL=${idem_processors}" -P "${PROJECT_SOURCE_DIR}/tests/cross/configuration.cmake" --
      "-DCMAKE_CXX_COMPILER=${compiler}" ${idem_launcher} -DCMAKE_CXX_EXTENSIONS=OFF -DIDEM_WARNINGS_AS_ERRORS=ON
      -DIDEM_TEST_HEADERS=ON -DIDEM_TEST_PRECOMPILED=ON -DCMAKE_BUILD_TYPE=Debug ${ARGN})
  # A build uses all processors by itself.
  set_tests_properties(configuration.${name} PROPERTIES TIMEOUT 1500 PROCESSORS ${idem_processors} LABELS configuration)
  find_program(idem_compiler_${compiler} ${compiler})
  mark_as_advanced(idem_compiler_${compiler})
  if(NOT idem_compiler_${compiler})
    message(STATUS "configuration.${name} is disabled: no ${compiler}")
    set_tests_properties(configuration.${name} PROPERTIES DISABLED ON)
  endif()
endfunction()

set(idem_fast -DCMAKE_CXX_FLAGS_DEBUG=-O0)
idem_configuration(release g++ -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG")
idem_configuration(clang-14 clang++-14 ${idem_fast})
idem_configuration(clang-19-libc++ clang++-19 ${idem_fast} -DCMAKE_CXX_FLAGS=-stdlib=libc++)

# The sanitizers are clang 19's: g++ 12 adds warnings of its own making under them. They also stand for clang 19 with
# libstdc++.
set(idem_sanitized "-O1 -g1 -fno-omit-frame-pointer")
idem_configuration(
  asan clang++-19 "-DCMAKE_CXX_FLAGS_DEBUG=${idem_sanitized} -fsanitize=address,undefined -fno-sanitize-recover=all")
idem_configuration(tsan clang++-19 "-DCMAKE_CXX_FLAGS_DEBUG=${idem_sanitized} -fsanitize=thread")

# What is stored has to be the same on 32 bits and on big-endian machines: keys, codecs, digests, protocol.
set(idem_golden "codec.*|key.*|golden.*|sha256|hmac|crc32c|protocol.*")
foreach(machine IN ITEMS i686 s390x)
  idem_configuration(
    ${machine} ${machine}-linux-gnu-g++ "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_CURRENT_LIST_DIR}/${machine}.cmake"
    -DCMAKE_CXX_FLAGS_DEBUG=-O1 "-DIDEM_TESTS=${idem_golden}" -DIDEM_BUILD_EXAMPLES=OFF)
endforeach()
find_program(idem_qemu_s390x qemu-s390x)
if(NOT idem_qemu_s390x)
  message(STATUS "configuration.s390x is disabled: no qemu-s390x")
  set_tests_properties(configuration.s390x PROPERTIES DISABLED ON)
endif()
