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

/// Whether the store has the newest format that this one knows from now on.
EXPORTED int idem_upgrade(void* store) {
  return static_cast<idem::FileStore*>(store)->upgrade().answer == idem::Answer::ok ? 1 : 0;
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
