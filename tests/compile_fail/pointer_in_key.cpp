// expect: a raw pointer can't be part of a key
// KEY-06: a raw pointer is an address, and says nothing about what the call means.
#include <idem/idempotent.hpp>

struct Account {
  int id;
};
void charge(const Account* account, int cents);
void charge(const Account*, int) {}

int main() {
  const Account account{1};
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">(charge, idem::key_by([](const Account* a, int) { return a->id; }));
#else
  auto charge_once = idem::idempotent<"charge">(charge);
#endif
  charge_once(&account, 100);
}
