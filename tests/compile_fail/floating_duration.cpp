// expect: a duration with a floating-point count has no exact value
// A floating-point time to live rounds, overflows and can be NaN.
#include <idem/duration.hpp>

#include <chrono>

int main() {
#ifdef IDEM_CORRECTED
  const idem::Duration ttl = std::chrono::seconds{2};
#else
  const idem::Duration ttl = std::chrono::duration<double>{1.5};
#endif
  static_cast<void>(ttl);
}
