// expect: for a member function say what of its object enters the key
// Whether the object belongs to the key only its author knows.
#include <idem/idempotent.hpp>

struct Gateway {
  int charge(int cents) { return cents; }
};

int main() {
  Gateway gateway;
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">(&Gateway::charge, idem::any_object);
#else
  auto charge_once = idem::idempotent<"charge">(&Gateway::charge);
#endif
  static_cast<void>(charge_once(gateway, 100));
}
