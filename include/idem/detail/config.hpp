// The one file in which idem defines macros and in which it throws.
//
// Every macro has the prefix IDEM_ and is 0 or 1, or stands for a keyword that -fno-exceptions takes away.
#pragma once

#include <cstdlib>  // abort where exceptions are off; also says which standard library this is

#define IDEM_VERSION_MAJOR 0
#define IDEM_VERSION_MINOR 1
#define IDEM_VERSION_PATCH 0

// One inline namespace with the major version of the interface. Nothing that idem stores depends on its name.
#define IDEM_BEGIN_NAMESPACE \
  namespace idem {           \
  inline namespace v1 {
#define IDEM_END_NAMESPACE \
  }                        \
  }

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define IDEM_EXCEPTIONS 1
#else
#define IDEM_EXCEPTIONS 0
#endif

#if defined(__GXX_RTTI) || defined(__cpp_rtti) || defined(_CPPRTTI)
#define IDEM_RTTI 1
#else
#define IDEM_RTTI 0
#endif

// glibc with libstdc++ ends a cancelled thread by an exception of its own that must not be swallowed.
#if IDEM_EXCEPTIONS && defined(__GLIBC__) && defined(__GLIBCXX__)
#define IDEM_FORCED_UNWIND 1
#else
#define IDEM_FORCED_UNWIND 0
#endif

#if IDEM_FORCED_UNWIND
#include <cxxabi.h>  // the exception that ends a cancelled thread
// Stands before each handler that doesn't throw again: a cancelled thread must be let go.
#define IDEM_CATCH_UNWIND           \
  catch (::abi::__forced_unwind&) { \
    throw;                          \
  }
#else
#define IDEM_CATCH_UNWIND
#endif

#if IDEM_EXCEPTIONS
#define IDEM_TRY try
#define IDEM_CATCH_STD(name) catch (const ::std::exception& name)
#define IDEM_CATCH_ALL catch (...)
#else
#define IDEM_TRY if constexpr (true)
#define IDEM_CATCH_ALL else
#endif

// Whether RedisStore can use TLS, which takes OpenSSL: see detail/redis/tls.hpp. The same in all parts of a program.
#if !defined(IDEM_REDIS_TLS)
#define IDEM_REDIS_TLS 0
#endif

// Whether detail/chrono.hpp may include what libstdc++ itself includes for clocks.
#if defined(_GLIBCXX_RELEASE)
#if _GLIBCXX_RELEASE >= 12 && _GLIBCXX_RELEASE <= 14 && __has_include(<bits/chrono.h>)
#define IDEM_SMALL_CHRONO 1
#else
#define IDEM_SMALL_CHRONO 0
#endif
#else
#define IDEM_SMALL_CHRONO 0
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define IDEM_NOINLINE __declspec(noinline)
#define IDEM_COLD __declspec(noinline)
#define IDEM_ALWAYS_INLINE __forceinline
#else
#define IDEM_NOINLINE __attribute__((noinline))
#define IDEM_COLD __attribute__((noinline, cold))
#define IDEM_ALWAYS_INLINE inline __attribute__((always_inline))
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Asks the processor for what is at `place`, without waiting for it. Nothing needs to be there.
IDEM_ALWAYS_INLINE void prefetch(const void* place) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(place);
#else
  static_cast<void>(place);
#endif
}

/// Throws `error`, or ends the program where exceptions are off.
template <class Error>
[[noreturn]] IDEM_COLD void raise(Error&& error) {
#if IDEM_EXCEPTIONS
  throw static_cast<Error&&>(error);
#else
  static_cast<void>(error);
  std::abort();
#endif
}

}  // namespace detail
IDEM_END_NAMESPACE
