// expect: a pointer can't be kept as a result
// A claim by hand keeps values, too: a literal is a pointer.
#include <idem/claim.hpp>
#include <idem/idempotent.hpp>
#include <idem/make_key.hpp>
#include <idem/memory_store.hpp>

#include <string>

int main() {
  idem::MemoryStore store;
  auto claim = idem::claim(store, idem::make_key("webhook", 1));
#ifdef IDEM_CORRECTED
  claim.complete(std::string("done"));
#else
  claim.complete("done");
#endif
}
