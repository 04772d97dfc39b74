// expect: a duration with a floating-point count has no exact value
// A floating-point time to live rounds, overflows and can be NaN.
#include <idem/idempotent.hpp>

#include <chrono>

int main() {
#ifdef IDEM_CORRECTED
  const std::chrono::milliseconds ttl{1500};
#else
  const std::chrono::duration<double> ttl{1.5};
#endif
  auto charge_once = idem::idempotent<"charge">([](int cents) { return cents; }, {.ttl = ttl});
  static_cast<void>(charge_once(100));
}
