// Descriptors of a store on files that a forked child must not keep.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/problem.hpp>
#include <idem/detail/fork_guard.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// See there.
class ForkClosed : public detail::ForkClosed {
 public:
  /// Takes `fd` over; what was held before is closed. Where that fails, `fd` is closed.
  [[nodiscard]] Problem set(Fd&& fd) noexcept {
    if (const int error = detail::ForkClosed::set(fd.release())) return {"cannot be kept from child processes", error};
    return {};
  }
};

}  // namespace detail::file
IDEM_END_NAMESPACE
