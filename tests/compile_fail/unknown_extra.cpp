// expect: behind the options may stand
// What isn't an extra is met with the list of those there are.
#include <idem/idempotent.hpp>

int main() {
  const auto charge = [](int cents) { return cents; };
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">(charge, idem::without_result);
#else
  auto charge_once = idem::idempotent<"charge">(charge, 42);
#endif
  static_cast<void>(charge_once.try_call(100));
}
