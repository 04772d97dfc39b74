// What stores at the OnceOnly service have in common.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <string>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

inline Reply reply_of(Answer answer, const Record& record) {
  Reply reply;
  reply.answer = answer;
  reply.record = record;
  return reply;
}
inline Reply reply_of(Answer answer, std::string message) {
  Reply reply;
  reply.answer = answer;
  reply.message = std::move(message);
  return reply;
}

/// `act()`, which may throw. `inherited`: by a child of fork, in which nobody knows who holds the mutexes.
template <class Act>
Reply operate(const Key& key, bool inherited, const char* what_throws, Act act) {
  if (!key.valid()) return reply_of(Answer::unavailable, "the key is empty");
  if (inherited)
    return reply_of(Answer::unavailable, "this store belongs to the parent of this process; make one in the child");
  IDEM_TRY {
    return act();
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {
    return reply_of(Answer::unavailable, what_throws);
  }
}

/// The part of a store that the service's API has no calls for: it lists nothing, and can't be told to forget.
struct Unlisted {
  template <class Each>
  void for_each(Each&&) {}
  PurgeResult purge(const PurgeOptions&) { return {0, 0, false}; }
  std::size_t clear() { return 0; }
  StoreStats stats() {
    StoreStats none;
    none.available = false;
    return none;
  }
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
