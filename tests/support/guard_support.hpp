// What the tests of the guard share: stores of each kind on a clock that stands still, and a list of what happened.
#pragma once

#include <idem/idem.hpp>
#include <idem/testing/lease_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <typeinfo>
#include <utility>
#include <vector>

namespace guard_support {

using idem::testing::LeaseStore;
using idem::testing::ManualClock;

/// The stores that every promise of the guard is tried on: each has objects or bytes, leases or none.
struct Memory {
  using Store = idem::MemoryStore;
  static constexpr bool objects = true;
  static Store make(const ManualClock& clock) { return Store(idem::MemoryStoreOptions{.clock = clock}); }
};
struct Leases {
  using Store = LeaseStore;
  static constexpr bool objects = false;
  static Store make(const ManualClock& clock) { return Store(idem::testing::LeaseStoreOptions{.clock = clock}); }
};
struct AnyMemory {
  using Store = idem::AnyStore;
  static constexpr bool objects = true;
  static Store make(const ManualClock& clock) { return Store(Memory::make(clock)); }
};
struct AnyLeases {
  using Store = idem::AnyStore;
  static constexpr bool objects = false;
  static Store make(const ManualClock& clock) { return Store(Leases::make(clock)); }
};

/// The function as a type that depends on its signature alone: guards of a file that are otherwise alike are instances of
/// one template then, and these are what takes the compiler's time. Other callables: test_callables_*.cpp.
template <class F>
auto function_of(F function) {
  return std::function(std::move(function));
}

/// A result that stores of bytes take apart field by field.
struct Receipt {
  int number = 0;
  std::string text = {};
  friend bool operator==(const Receipt&, const Receipt&) = default;
};

/// Remembers the kinds and messages of events. A handle: copies are one list.
class Events {
 public:
  void operator()(const idem::Event& event) const {
    const std::lock_guard lock(seen_->mutex);
    seen_->kinds.push_back(event.kind);
    seen_->messages.emplace_back(event.message);
    seen_->epochs.push_back(event.epoch);
  }
  std::vector<idem::EventKind> kinds() const {
    const std::lock_guard lock(seen_->mutex);
    return seen_->kinds;
  }
  std::vector<std::string> messages() const {
    const std::lock_guard lock(seen_->mutex);
    return seen_->messages;
  }
  std::size_t count(idem::EventKind kind) const {
    std::size_t found = 0;
    for (const idem::EventKind seen : kinds()) found += seen == kind ? 1 : 0;
    return found;
  }

 private:
  struct Seen {
    std::mutex mutex;
    std::vector<idem::EventKind> kinds;
    std::vector<std::string> messages;
    std::vector<std::uint64_t> epochs;
  };
  std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();
};

/// An observer that lets time pass as soon as somebody waits, so that waiting ends without anybody sleeping.
inline auto pass_time_while_waiting(const ManualClock& clock, idem::Duration span) {
  return [clock, span](const idem::Event& event) {
    if (event.kind == idem::EventKind::waiting) ManualClock(clock).advance(span);
  };
}

/// Puts a key into one of the states that a call can meet, by claims made by hand.
template <class Store>
idem::Claim hold(Store& store, const idem::Key& key, idem::Duration ttl = std::chrono::hours(24)) {
  return idem::claim(store, key,
                     {.ttl = ttl, .lease = std::chrono::hours(1), .wait_timeout = std::chrono::seconds(0)});
}
template <class Store>
void leave_in_doubt(Store& store, const idem::Key& key) {
  const idem::Claim claim = hold(store, key);
}

/// Does `act` in a thread of its own, as another process would: nothing of this thread's stack is its own.
template <class Act>
auto elsewhere(Act act) {
  std::optional<decltype(act())> result;
  std::thread([&] { result.emplace(act()); }).join();
  return *std::move(result);
}

/// Whether `act` throws an E, and nothing derived from it.
template <class E, class Act>
bool throws_exactly(Act&& act) {
  try {
    static_cast<void>(act());
  } catch (const E& error) {
    return typeid(error) == typeid(E);
  } catch (...) {
  }
  return false;
}

/// What an IdempotencyError says about the effect; Effect{} where another exception or none is thrown.
template <class Act>
idem::Effect effect_of(Act&& act) {
  try {
    static_cast<void>(act());
  } catch (const idem::IdempotencyError& error) {
    return error.effect();
  } catch (...) {
  }
  return idem::Effect{};
}

}  // namespace guard_support
