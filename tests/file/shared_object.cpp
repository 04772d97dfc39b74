// Built as two shared objects, each with everything of idem in it and nothing of that visible outside.
#include <idem/file_store.hpp>
#include <idem/idem.hpp>

#include <chrono>

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED void* idem_open(const char* path) {
  return new idem::FileStore(path, {.durability = idem::Durability::process});
}

EXPORTED void idem_close(void* store) {
  delete static_cast<idem::FileStore*>(store);
}

/// The verdict of a call that doesn't wait; `result` gets the value, where there is one.
EXPORTED int idem_call(void* store, int key, int (*function)(int), int* result) {
  const auto guard = idem::idempotent<"shared">([function](int argument) { return function(argument); },
                                                {.wait_timeout = std::chrono::seconds(0)},
                                                *static_cast<idem::FileStore*>(store));
  const auto outcome = guard.try_call(key);
  if (outcome.has_value()) *result = outcome.value();
  return static_cast<int>(outcome.verdict());
}
