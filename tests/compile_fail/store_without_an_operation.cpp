// expect: behind the options may stand: a store
// A near miss of a store is told what it lacks.
#include <idem/idem.hpp>

// Looks like one from afar.
class Incomplete {
 public:
  void purge() {}
};

int main() {
  const auto charge = [](int cents) { return cents; };
#ifdef IDEM_CORRECTED
  idem::MemoryStore store;
#else
  Incomplete store;
#endif
  auto charge_once = idem::idempotent<"charge">(charge, store);
  static_cast<void>(charge_once(100));
}
