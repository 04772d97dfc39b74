// expect: use key_by or key_from once, not both
// Of two contradicting extras neither wins silently.
#include <idem/idempotent.hpp>

int main() {
  const auto charge = [](int id, int cents) { return id + cents; };
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">(charge, idem::key_from<0>);
#else
  auto charge_once =
      idem::idempotent<"charge">(charge, idem::key_from<0>, idem::key_by([](int id, int) { return id; }));
#endif
  static_cast<void>(charge_once(1, 100));
}
