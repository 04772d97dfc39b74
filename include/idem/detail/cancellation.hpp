// Keeps a thread from being cancelled where half of something must not be left behind.
#pragma once

#include <idem/detail/config.hpp>

#if IDEM_FORCED_UNWIND
#include <pthread.h>  // pthread_setcancelstate
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

/// While this lives, a request to cancel the thread (pthread_cancel(3)) is kept for later: a store's operation is
/// either done or not begun, and the destructors that end a run can't be unwound themselves. Waiting and the user's
/// function stay cancellable.
class NoCancellation {
 public:
#if IDEM_FORCED_UNWIND
  /// Does nothing where it isn't `needed`.
  explicit NoCancellation(bool needed = true) noexcept : needed_(needed) {
    if (needed_) ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_);
  }
  ~NoCancellation() {
    int ignored = 0;
    if (needed_) ::pthread_setcancelstate(before_, &ignored);
  }
#else
  explicit NoCancellation(bool = true) noexcept {}
  ~NoCancellation() {}
#endif
  NoCancellation(const NoCancellation&) = delete;
  NoCancellation& operator=(const NoCancellation&) = delete;

#if IDEM_FORCED_UNWIND
 private:
  const bool needed_;
  int before_ = 0;
#endif
};

/// Of a store whose operations, but for `wait`, have no cancellation point that they don't shield themselves: shielding
/// all of an operation would cost it more than its lock. By the very type, since a class derived from a store may do
/// anything.
template <class S>
inline constexpr bool shields_itself = false;

}  // namespace detail
IDEM_END_NAMESPACE
