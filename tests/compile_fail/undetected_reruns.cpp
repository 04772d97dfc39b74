// expect: say that this is meant with idem::onceonly::allow_undetected_reruns
// A store that can't always tell a call in doubt from one that wasn't made is not taken in silence.
#include <idem/idempotent.hpp>
#include <idem/memory_store.hpp>

class Blind : public idem::MemoryStore {
 public:
  static constexpr bool detects_doubt = false;
};

struct Consent {
  using idem_extra = idem::extra::rerun_consent;
};

int main() {
  Blind store;
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">([](int cents) { return cents; }, store, Consent{});
#else
  auto charge_once = idem::idempotent<"charge">([](int cents) { return cents; }, store);
#endif
  static_cast<void>(charge_once(100));
}
