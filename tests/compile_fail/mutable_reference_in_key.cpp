// expect: a mutable reference can't enter the key
// KEY-06: what the function changes can't be what names the call.
#include <idem/idempotent.hpp>

void charge(int id, int& balance);
void charge(int id, int& balance) {
  balance -= id;
}

int main() {
  int balance = 100;
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">(charge, idem::key_from<0>);
#else
  auto charge_once = idem::idempotent<"charge">(charge);
#endif
  charge_once(1, balance);
}
