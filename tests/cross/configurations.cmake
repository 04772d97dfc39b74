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
# Each takes half of the processors, so that one's linking and waiting doesn't leave the others idle.
math(EXPR idem_processors "(${idem_processors} + 1) / 2")

# idem_configuration(NAME COMPILER FLAGS option...): where the compiler, its library or the sanitizers are missing, the
# test is shown as disabled.
function(idem_configuration name compiler flags)
  # Only what PATH has, as tests/run sees it.
  find_program(idem_compiler_${compiler} ${compiler} NO_CMAKE_SYSTEM_PATH)
  mark_as_advanced(idem_compiler_${compiler})
  set(path "${idem_compiler_${compiler}}")
  if(path AND NOT "${idem_probed_${name}}" STREQUAL "${path} ${flags}")
    separate_arguments(words UNIX_COMMAND "${flags}")
    execute_process(
      COMMAND "${path}" ${words} "${PROJECT_SOURCE_DIR}/tests/cross/probe.cpp" -o "${PROJECT_BINARY_DIR}/probe"
      RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
    if(result EQUAL 0)
      set(idem_probed_${name} "${path} ${flags}" CACHE INTERNAL "What the probe was built with")
    else()
      set(path "")
    endif()
  endif()
  add_test(
    NAME configuration.${name}
    COMMAND
      "${CMAKE_COMMAND}" "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DBINARY=${PROJECT_BINARY_DIR}/${name}"
      "-DPARALLEL=${idem_processors}" -P "${PROJECT_SOURCE_DIR}/tests/cross/configuration.cmake" --
      "-DCMAKE_CXX_COMPILER=${path}" "-DCMAKE_CXX_FLAGS=${flags}" ${idem_launcher} -DCMAKE_CXX_EXTENSIONS=OFF
      -DIDEM_WARNINGS_AS_ERRORS=ON -DIDEM_TEST_PRECOMPILED=ON -DIDEM_TEST_BATCHED=ON -DCMAKE_BUILD_TYPE=None
      -DIDEM_ONCEONLY=OFF ${ARGN})
  # They take longest, so that they begin first.
  set_tests_properties(configuration.${name} PROPERTIES TIMEOUT 1500 PROCESSORS ${idem_processors} COST 500
                                                        LABELS configuration)
  if(NOT path)
    message(STATUS "configuration.${name} is disabled: ${compiler} ${flags} is not to be had here")
    set_tests_properties(configuration.${name} PROPERTIES DISABLED ON)
  endif()
endfunction()

# Two cores have to get through all of it, so that each configuration builds what it may differ in; the default build has
# everything. Left out of asan is what is about types alone, and what counts system calls or forks: sanitizers make calls
# of their own.
set(idem_compiled "callables_(arguments|forms)|claim_by_hand|codec_(concepts|expected|fields|shape)|conformance_file")
string(APPEND idem_compiled "|memory_store|options")
set(idem_optimised "crc32c|file_frame|guard_callers|hmac|memory_(hash|reclaim|store)|random|sha256")
set(idem_addressed "claim_by_hand|codec_(fields|hostile)|conformance_(file|memory)|crc32c|guard_callers|memory_(reclaim|store)")
string(APPEND idem_addressed "|file_(compaction|damage|frame|garbage|index|mapping|page|recovery|scan)|record_bytes|sha256|shared_object")
set(idem_threaded "claim_threads|conformance_(file|memory)|file_(compaction|hand_over|waiting)|guard_callers|memory_(threads|waiting)")

# Of the tests with a server those that read what it sent, and those that have threads; likewise of the client's.
set(idem_redis_addressed "channel|conformance|listener|reader")
set(idem_redis_threaded "channel_threads|conformance|lease_keeper|listener")
set(idem_onceonly_addressed "answers")
set(idem_onceonly_threaded "ai|keepers")

# What takes longer than a quarter of an hour: `tests/run sanitizers`.
if(IDEM_TEST_SANITIZERS)
  string(APPEND idem_addressed "|ch.*|claim_.*|codec_[^c].*|conformance_.*|duration|faulty_store|hmac|key_encoding|memory_.*")
  string(APPEND idem_addressed
         "|file_(hostile|lock|os|owed|owner|reports|time|waiting)|guard_(claims|duplicates|events|failures)|ma.*")
  string(APPEND idem_addressed "|protocol_.*|r.*|sh.*")
  string(APPEND idem_threaded "|check_lock|faulty_store|file_(mapping|owed|page|processes)|guard_(duplicates|reentrancy)")
  string(APPEND idem_threaded "|memory_.*|random|shared_object")
  string(APPEND idem_redis_addressed "|acl|admission|cluster|command|durability|errors|handshake|lease_keeper|options|records|sentinel|sweep")
  string(APPEND idem_redis_threaded "|channel|cluster|errors|leases|sentinel")
  string(APPEND idem_onceonly_addressed "|remote_store|wire")
  string(APPEND idem_onceonly_threaded "|guards|remote_store")
endif()

# The other programs (golden vectors, some of tests/headers, examples) are built by those configurations alone that may
# find something of their own in them: another compiler, library or machine. Sanitizers see codecs and journals in the
# unit tests, the optimiser sees them for s390x; that headers do in several units the default compiler has shown.
set(idem_sanitized -DIDEM_BUILD_EXAMPLES=OFF)

idem_configuration(release g++ "-O2 -DNDEBUG" "-DIDEM_TESTS=${idem_optimised}" -DIDEM_BUILD_EXAMPLES=OFF)
idem_configuration(clang-14 clang++-14 -O0 "-DIDEM_TESTS=${idem_compiled}" "-DIDEM_REDIS_TESTS=conformance"
                   -DIDEM_TEST_GOLDEN=ON "-DIDEM_TEST_HEADERS=neither|no_rtti|options_struct")
# What the library may make differ, not what the compiler does.
set(idem_other_library "callables_forms|codec_fields|conformance_file|file_os|memory_store|options")
idem_configuration(clang-19-libc++ clang++-19 "-O0 -stdlib=libc++" "-DIDEM_TESTS=${idem_other_library}"
                   -DIDEM_TEST_GOLDEN=ON "-DIDEM_TEST_HEADERS=neither|windows_macros" -DIDEM_BUILD_EXAMPLES=OFF)

# The sanitizers are clang 19's: g++ 12 adds warnings of its own making under them. They also stand for clang 19 with
# libstdc++.
idem_configuration(asan clang++-19 "-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
                   "-DIDEM_TESTS=${idem_addressed}" "-DIDEM_REDIS_TESTS=${idem_redis_addressed}" ${idem_sanitized}
                   -DIDEM_ONCEONLY=AUTO "-DIDEM_ONCEONLY_TESTS=${idem_onceonly_addressed}")
idem_configuration(tsan clang++-19 "-O0 -g1 -fsanitize=thread" "-DIDEM_TESTS=${idem_threaded}"
                   "-DIDEM_REDIS_TESTS=${idem_redis_threaded}" ${idem_sanitized} -DIDEM_ONCEONLY=AUTO
                   "-DIDEM_ONCEONLY_TESTS=${idem_onceonly_threaded}")

# What is stored has to be the same on 32 bits and on big-endian machines: keys, codecs, digests, protocol.
set(idem_golden "codec_(fields|golden|hostile)|crc32c|file_frame|hmac|key_encoding|protocol_table|record_bytes|sha256")
set(idem_flags_i686 -O0)
set(idem_flags_s390x -O1)  # an emulator runs it
foreach(machine IN ITEMS i686 s390x)
  idem_configuration(
    ${machine} ${machine}-linux-gnu-g++ ${idem_flags_${machine}}
    "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_CURRENT_LIST_DIR}/${machine}.cmake" "-DIDEM_TESTS=${idem_golden}"
    -DIDEM_TEST_GOLDEN=ON -DIDEM_BUILD_EXAMPLES=OFF -DIDEM_REDIS=OFF)
endforeach()
find_program(idem_qemu_s390x qemu-s390x NO_CMAKE_SYSTEM_PATH)
if(NOT idem_qemu_s390x)
  message(STATUS "configuration.s390x is disabled: no qemu-s390x")
  set_tests_properties(configuration.s390x PROPERTIES DISABLED ON)
endif()
