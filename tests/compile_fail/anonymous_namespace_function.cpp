// expect: a function in an anonymous namespace shares its name with others
// Two files may hold two such functions of one name: their keys would meet.
#include <idem/idempotent.hpp>

namespace {
int charge(int cents) {
  return cents;
}
}  // namespace

int main() {
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"billing.charge">(charge);
#else
  auto charge_once = idem::idempotent<charge>();
#endif
  static_cast<void>(charge_once(100));
}
