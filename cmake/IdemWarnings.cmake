# What idem's own tests, examples and benchmarks are compiled with. Never part of idem::idem.
add_library(idem_warnings INTERFACE)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(
    idem_warnings
    INTERFACE -Wall
              -Wextra
              -Wpedantic
              -Wconversion
              -Wsign-conversion
              -Wshadow
              -Wold-style-cast
              -Wundef
              -Wnon-virtual-dtor
              -Wdouble-promotion
              $<$<CXX_COMPILER_ID:GNU>:-Wuseless-cast>
              $<$<BOOL:${IDEM_WARNINGS_AS_ERRORS}>:-Werror>)
elseif(MSVC)
  target_compile_options(idem_warnings INTERFACE /W4 /permissive- $<$<BOOL:${IDEM_WARNINGS_AS_ERRORS}>:/WX>)
endif()
