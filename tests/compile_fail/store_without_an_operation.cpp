// expect: this store lacks 'void wait(const Key&, std::uint64_t epoch, TimePoint deadline)'
// A near miss of a store is told what it lacks.
#include <idem/idempotent.hpp>
#include <idem/memory_store.hpp>

// Its wait forgot the epoch.
class Incomplete : public idem::MemoryStore {
#ifndef IDEM_CORRECTED
 public:
  void wait(const idem::Key& key, idem::TimePoint deadline) {
    idem::MemoryStore::wait(key, 1, deadline);
  }
#endif
};

int main() {
  Incomplete store;
  auto charge_once = idem::idempotent<"charge">([](int cents) { return cents; }, store);
  static_cast<void>(charge_once(100));
}
