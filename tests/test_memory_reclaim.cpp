// When the memory store frees what it kept, and that it holds no lock while it does.
#include <doctest/doctest.h>

#include "memory_support.hpp"

#include <idem/detail/memory_reclaim.hpp>
#include <idem/memory_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

using namespace memory_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::MemoryStore;
using idem::Reply;

namespace {

struct Counted {
  static inline int alive = 0;
  explicit Counted(int number = 0) : value(number) { ++alive; }
  Counted(const Counted& other) : value(other.value) { ++alive; }
  Counted& operator=(const Counted&) = default;
  ~Counted() { --alive; }
  int value;
};

/// Uses the store whenever it is copied or destroyed there.
struct Nosy {
  MemoryStore* store = nullptr;
  idem::Key key = {};
  int* visits = nullptr;

  Nosy(MemoryStore& in, const idem::Key& of, int& count) : store(&in), key(of), visits(&count) {}
  Nosy(const Nosy& other) : store(other.store), key(other.key), visits(other.visits) { visit(); }
  Nosy& operator=(const Nosy&) = delete;
  ~Nosy() { visit(); }
  void visit() const {
    ++*visits;
    store->find(key);
    store->peek(key, nullptr);
    const Reply reply = claim(*store, key_of(99));
    if (reply.answer == Answer::acquired) store->release(key_of(99), reply.record.owner);
    store->purge({});
  }
};

}  // namespace

TEST_CASE("CXX-16: a result that uses the store when it is copied or destroyed meets no lock") {
  int visits = 0;
  {
    idem::testing::ManualClock clock;
    idem::MemoryStoreOptions options;
    options.clock = clock;
    MemoryStore store(options);
    const idem::Key key = key_of(1);
    const auto keep = [&](idem::Duration ttl) {
      const Nosy nosy(store, key, visits);
      return put(store, key, nosy, ttl).answer;
    };
    CHECK(keep(idem::forever) == Answer::ok);
    store.erase(key);
    CHECK(keep(idem::forever) == Answer::ok);
    store.clear();
    CHECK(keep(1s) == Answer::ok);
    clock.advance(1s);
    CHECK(keep(1s) == Answer::ok);  // in the place of the expired one
    clock.advance(1s);
    store.purge({});
    // A copy for a completion that comes too late.
    const Reply stale = claim(store, key);
    store.release(key, stale.record.owner);
    const Nosy nosy(store, key, visits);
    CHECK(store.complete(key, outcome(stale, nosy)).answer == Answer::stale);
  }
  CHECK(visits >= 12);
}

TEST_CASE("MEM: a result is destroyed as soon as it is forgotten, but not while a payload shows it") {
  Counted::alive = 0;
  {
    MemoryStore store;
    put(store, key_of(1), Counted(1));
    CHECK(Counted::alive == 1);
    store.erase(key_of(1));
    CHECK(Counted::alive == 0);

    put(store, key_of(1), Counted(1));
    put(store, key_of(2), Counted(2));
    std::optional<idem::Peeked> held = store.peek(key_of(1), nullptr);
    idem::Peeked moved = std::move(*held);
    held.reset();
    store.erase(key_of(1));
    store.erase(key_of(2));
    CHECK(moved.payload.object<Counted>()->value == 1);
    moved = idem::Peeked{};
    // Whoever writes next frees it.
    store.purge({});
    CHECK(Counted::alive == 0);
    put(store, key_of(3), Counted(3));
    const Reply found = store.find(key_of(3));
    CHECK(found.payload.object<Counted>()->value == 3);
  }
  CHECK(Counted::alive == 0);
}

TEST_CASE("MEM: what was retired is freed once every reader that was there has left, and not before") {
  struct Object : idem::detail::Retirable {
    int* freed = nullptr;
  };
  int freed = 0;
  const auto retired = [&freed] {
    auto* object = new Object;
    object->freed = &freed;
    object->discard = [](idem::detail::Retirable* base) noexcept {
      auto* self = static_cast<Object*>(base);
      ++*self->freed;
      delete self;
    };
    return object;
  };
  idem::detail::Readers readers;
  idem::detail::Reclaimer reclaimer;
  const auto collect = [&] {
    idem::detail::RetiredList free;
    reclaimer.collect_now(readers, free);
  };
  auto* first = &readers.enter();
  auto* nested = &readers.enter();
  reclaimer.retire(retired(), false);
  collect();
  CHECK(freed == 0);
  idem::detail::Readers::leave(*nested);
  collect();
  CHECK(freed == 0);
  idem::detail::Readers::leave(*first);
  // A reader that comes later sees what was retired before as little as anybody else; this one shares the count.
  reclaimer.retire(retired(), false);
  collect();
  CHECK(freed == 2);
  for (int i = 0; i < 1000; ++i) {
    reclaimer.retire(retired(), false);
    idem::detail::RetiredList free;
    reclaimer.collect(readers, free);
  }
  CHECK(freed > 900);
  collect();
  CHECK(freed == 1002);
}
