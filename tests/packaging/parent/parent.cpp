#include "parent.hpp"

namespace parent {
namespace {
int times = 0;
}
int charge(int cents) {
  ++times;
  return cents;
}
int times_charged() { return times; }
}  // namespace parent
