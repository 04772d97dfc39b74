// 128 bits that name a store, a journal, a boot of the machine or an owner file.
#pragma once

#include <idem/detail/config.hpp>

#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// All zero names nothing.
struct Id128 {
  std::uint8_t bytes[16] = {};

  bool empty() const noexcept {
    for (const std::uint8_t byte : bytes) {
      if (byte != 0) return false;
    }
    return true;
  }
  friend bool operator==(const Id128&, const Id128&) noexcept = default;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
