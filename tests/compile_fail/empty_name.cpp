// expect: a guard's name can't be empty
// All guards without a name would share their keys.
#include <idem/idempotent.hpp>

int main() {
  const auto charge = [](int cents) { return cents; };
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">(charge);
#else
  auto charge_once = idem::idempotent<"">(charge);
#endif
  static_cast<void>(charge_once(100));
}
