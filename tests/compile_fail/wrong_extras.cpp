// What stands behind the options and makes no sense there is met with a sentence that says why.
// expect [store, other]: a guard has one store
// expect [idem::MemoryStore{}, store]: a guard has one store
// expect [fixed]: a store that is used can't be const
// expect [near_miss]: this store lacks 'idem::Reply erase(const Key&)'
// expect [idem::any_object]: any_object is for member functions
// expect [idem::key_from<2>]: key_from names a position that this function doesn't have
// expect [idem::key_from<0>, idem::key_by(first)]: use key_by or key_from once, not both
// expect [idem::key_by(none)]: the function of key_by is called with all arguments
// expect [idem::without_result, idem::without_result]: without_result stands twice
// expect [idem::on_duplicate_return(text)]: on_duplicate_return takes a value of the function's result
// expect [store, 42]: behind the options may stand
// expect [store, idem::Options{}]: behind the options may stand
#include <idem/idempotent.hpp>
#include <idem/memory_store.hpp>

#include <string>

/// A near miss: has all but one operation.
struct NearMiss : idem::MemoryStore {
  void erase() = delete;
};

int main() {
  idem::MemoryStore store;
  idem::MemoryStore other;
  const idem::MemoryStore fixed;
  NearMiss near_miss;
  const std::string text = "text";
  const auto first = [](int id, int) { return id; };
  const auto none = [] { return 1; };
#ifdef IDEM_CORRECTED
  auto charge_once = idem::idempotent<"charge">([](int id, int cents) { return id + cents; }, store,
                                                idem::key_by(first), idem::on_duplicate_return(0));
#else
  auto charge_once = idem::idempotent<"charge">([](int id, int cents) { return id + cents; }, IDEM_CASE);
#endif
  static_cast<void>(charge_once(1, 100));
  static_cast<void>(other), static_cast<void>(fixed), static_cast<void>(near_miss), static_cast<void>(none);
}
