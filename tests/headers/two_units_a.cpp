// Two translation units, and both as one: what is defined in a header is inline, and nothing depends on being first.
#include "all_headers.hpp"
#include "use.hpp"

namespace two_units {
bool used_in_b();
}  // namespace two_units

int main() {
  const bool here = second_call_is_replayed();
  return here && two_units::used_in_b() ? 0 : 1;
}
