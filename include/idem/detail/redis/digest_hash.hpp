// Tables by the digests of keys.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Digests are spread evenly, so that any of their bits will do.
struct DigestHash {
  std::size_t operator()(const Digest& digest) const noexcept {
    std::size_t hash = 0;
    std::memcpy(&hash, digest.bytes, sizeof hash);
    return hash;
  }
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
