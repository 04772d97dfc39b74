#pragma once

#include <idem/idem.hpp>

namespace parent {
int charge(int cents);
inline int charge_once(int cents) {
  static const auto guard = idem::idempotent<charge>();
  return guard(cents);
}
int times_charged();
}  // namespace parent
