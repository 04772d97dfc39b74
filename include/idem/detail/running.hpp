// Which claims the functions on this thread's stack hold, so that a call that would wait for itself is told so.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/protocol.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

class RunningFrame;
/// Innermost frame of this thread. Two shared objects may each have their own: then a cycle through both isn't seen and
/// ends by the waiting limit.
inline constinit thread_local const RunningFrame* innermost_frame = nullptr;

/// Lives on the stack around a call of the user's function. A record's owner token tells whether a running one belongs
/// to this thread, whatever store object it was seen through. REQUIRES: the owner outlives it.
class RunningFrame {
 public:
  explicit RunningFrame(const Ownership& owner) noexcept : owner_(&owner), outer_(innermost_frame) {
    innermost_frame = this;
  }
  ~RunningFrame() { innermost_frame = outer_; }
  RunningFrame(const RunningFrame&) = delete;
  RunningFrame& operator=(const RunningFrame&) = delete;

  static bool on_this_stack(const OwnerToken& owner) noexcept {
    for (const RunningFrame* frame = innermost_frame; frame != nullptr; frame = frame->outer_) {
      if (frame->owner_->token == owner) return true;
    }
    return false;
  }

 private:
  const Ownership* owner_;
  const RunningFrame* outer_;
};

}  // namespace detail
IDEM_END_NAMESPACE
