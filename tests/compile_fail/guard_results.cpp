// SER-07, T-56: results that can't be replayed are refused where the guard is called, on the store at hand.
// expect [int&, idem::MemoryStore]: a reference can't be kept as a result
// expect [int*, idem::MemoryStore]: a pointer can't be kept as a result
// expect [std::string_view, idem::MemoryStore]: a view dangles
// expect [std::span<int>, idem::MemoryStore]: a view dangles
// expect [std::unique_ptr<int>, idem::MemoryStore]: MemoryStore keeps copies of results, and this one can't be copied
// expect [int&, idem::testing::LeaseStore]: a reference can't be kept as a result
// expect [std::string_view, idem::testing::LeaseStore]: a view dangles
// expect [Closed, idem::testing::LeaseStore]: this type can't be a stored result yet
// expect [std::vector<Closed>, idem::testing::LeaseStore]: this type can't be a stored result yet
// expect [Closed, AnyMemory]: this type can't be a stored result yet
#include <idem/any_store.hpp>
#include <idem/idempotent.hpp>
#include <idem/memory_store.hpp>
#include <idem/testing/lease_store.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

class Closed {
 public:
  explicit Closed(int id) : id_(id) {}
  int id() const { return id_; }

 private:
  int id_;
};

struct AnyMemory : idem::AnyStore {
  AnyMemory() : idem::AnyStore(idem::MemoryStore{}) {}
};

template <class R>
R make(int) {
  throw 1;
}

template <class R, class Store>
void check() {
  Store store;
  auto once = idem::idempotent<"result">(make<R>, store);
  once.try_call(1);
}

int main() {
#ifdef IDEM_CORRECTED
  check<std::unique_ptr<int>, idem::testing::LeaseStore>();
  check<Closed, idem::MemoryStore>();
  check<std::shared_ptr<int>, AnyMemory>();
  idem::MemoryStore store;
  idem::idempotent<"any result">(make<int&>, store, idem::without_result).try_call(1);
#else
  check<IDEM_CASE>();
#endif
}
