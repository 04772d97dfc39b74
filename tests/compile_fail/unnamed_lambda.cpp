// expect: a lambda or function object has no name of its own
// A lambda has no name that outlives refactoring, or a second compiler.
#include <idem/idempotent.hpp>

int main() {
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">([](int cents) { return cents; });
#else
  auto charge_once = idem::idempotent<[](int cents) { return cents; }>();
#endif
  static_cast<void>(charge_once(100));
}
