// No memory at each point of a call: before the function it isn't run, after it its value is in hand.
#include <doctest/doctest.h>

#include "support/directory.hpp"
#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <idem/file_store.hpp>
#include <idem/make_key.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::Verdict;

// Sanitizers bring an operator new of their own, which must stay.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IDEM_TEST_OWN_NEW 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define IDEM_TEST_OWN_NEW 0
#else
#define IDEM_TEST_OWN_NEW 1
#endif
#else
#define IDEM_TEST_OWN_NEW 1
#endif

#if IDEM_TEST_OWN_NEW

namespace {

/// Of this thread: how many allocations still succeed; negative: all.
thread_local long allowed = -1;
thread_local bool refused = false;
/// Whether all allocations after the refused one fail, too.
thread_local bool forever_refused = false;

bool refuse() noexcept {
  if (allowed < 0) return false;
  if (allowed > 0) {
    --allowed;
    return false;
  }
  if (!forever_refused) allowed = -1;
  refused = true;
  return true;
}

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  if (refuse()) return nullptr;
  if (size == 0) size = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}
void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* const memory = allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return allocate_or_throw(size, 1); }
void* operator new[](std::size_t size) { return allocate_or_throw(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

/// Lets the n-th allocation of `act` fail, for each n until it makes do without: `each(n, act's result)`.
template <class Act, class Check>
void with_each_allocation_failing(bool forever, Act&& act, Check&& check) {
  for (long n = 0; n < 500; ++n) {
    forever_refused = forever;
    refused = false;
    allowed = n;
    bool threw = false;
    try {
      act(n);
    } catch (...) {
      threw = true;
    }
    allowed = -1;
    const bool was_refused = refused;
    INFO("allocation " << n << (forever ? " and all after it" : ""));
    CHECK_FALSE(threw);
    check(n);
    if (!was_refused) {
      CHECK(n > 0);
      return;
    }
  }
  FAIL("still refused after 500 allocations");
}

/// A key that doesn't fit into a Key's own room, so that making it needs memory.
std::string long_argument(long n) { return std::string(300, 'k') + std::to_string(n); }

}  // namespace

TEST_CASE_TEMPLATE("CXX-17: without memory the function isn't run, or its value is in hand; never both or neither", K, Memory,
                   Leases) {
  for (const bool forever : {false, true}) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    // The function's result needs no memory, so that every refusal is the guard's or the store's.
    auto once = idem::idempotent<"out of memory">([&](const std::string&, idem::Context&) { return ++runs; },
                                                  {.wait_timeout = 0s}, store);
    idem::Verdict verdict{};
    idem::Effect effect{};
    bool has_value = false;
    int before = 0;
    std::string argument;
    with_each_allocation_failing(
        forever,
        [&](long n) {
          const long permitted = allowed;
          allowed = -1;
          argument = long_argument(n);
          before = runs;
          allowed = permitted;
          const auto outcome = once.try_call(argument);
          verdict = outcome.verdict();
          effect = outcome.error().effect;
          has_value = outcome.has_value();
        },
        [&](long) {
          const bool ran = runs != before;
          CHECK(has_value == ran);
          if (ran) {
            CHECK(effect == Effect::ran);
            CHECK((verdict == Verdict::executed || verdict == Verdict::unrecorded || verdict == Verdict::stale));
          } else {
            CHECK(effect == Effect::not_run);
            CHECK((verdict == Verdict::unavailable || verdict == Verdict::invalid_key));
          }
          // Whatever happened, the next caller never repeats a run that was begun.
          const int after_first = runs;
          const auto next = once.try_call(argument);
          if (ran) {
            CHECK(runs == after_first);
            CHECK((next.verdict() == Verdict::replayed || next.verdict() == Verdict::in_doubt ||
                   next.verdict() == Verdict::unrecorded || next.verdict() == Verdict::in_progress));
          } else {
            CHECK((next.verdict() == Verdict::executed || next.verdict() == Verdict::in_doubt));
          }
        });
  }
}

TEST_CASE_TEMPLATE("CXX-17: a duplicate without memory is told something true, and runs nothing", K, Memory, Leases) {
  for (const bool forever : {false, true}) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = idem::idempotent<"duplicate out of memory">(
        [&](const std::string&) { return std::string(200, 'r') + std::to_string(++runs); }, store);
    const std::string argument = long_argument(0);
    const std::string expected = once(argument);
    REQUIRE(runs == 1);
    with_each_allocation_failing(
        forever,
        [&](long) {
          const auto outcome = once.try_call(argument);
          if (outcome.has_value() && outcome.value() != expected) ++runs;
        },
        [&](long) {
          CHECK(runs == 1);
          CHECK(once(argument) == expected);
        });
    CHECK(runs == 1);
  }
}

TEST_CASE_TEMPLATE("CXX-17: a failure without memory is still the function's own", K, Memory, Leases) {
  for (const idem::OnFailure policy : {idem::OnFailure::unlock, idem::OnFailure::lock, idem::OnFailure::in_doubt}) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = idem::idempotent<"failing out of memory">(
        [&](const std::string&) -> int {
          ++runs;
          throw 42;
        },
        {.on_failure = policy}, store, idem::classify_failure([&](std::exception_ptr) {
          return policy == idem::OnFailure::unlock ? idem::Failure::retryable
                                                   : policy == idem::OnFailure::lock ? idem::Failure::permanent
                                                                                      : idem::Failure::in_doubt;
        }));
    int before = 0;
    bool own = false;
    idem::Verdict verdict{};
    std::string argument;
    with_each_allocation_failing(
        false,
        [&](long n) {
          const long permitted = allowed;
          allowed = -1;
          argument = long_argument(n);
          before = runs;
          allowed = permitted;
          const auto outcome = once.try_call(argument);
          allowed = -1;
          verdict = outcome.verdict();
          own = false;
          try {
            if (outcome.exception() != nullptr) std::rethrow_exception(outcome.exception());
          } catch (int number) {
            own = number == 42;
          } catch (...) {
          }
        },
        [&](long) {
          if (runs == before) return;
          CHECK(verdict == Verdict::failed);
          CHECK(own);
        });
  }
}

namespace {

idem::FinishRequest fine(const idem::Ownership& owner, const std::string& result) {
  idem::FinishRequest request;
  request.owner = owner;
  request.source = {.kind = idem::PayloadKind::value,
                    .data = reinterpret_cast<const std::uint8_t*>(result.data()),
                    .size = result.size()};
  return request;
}

idem::ClaimRequest by_anybody() {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  return request;
}

}  // namespace

TEST_CASE("FDU-17: a FileStore without memory loses no record and no lock, whichever allocation fails") {
  using idem::Answer;
  for (const bool forever : {false, true}) {
    std::string result = "made";
    const support::Directory place;
    const idem::FileStoreOptions options{.durability = idem::Durability::process};
    idem::FileStore witness(place.path(), options);
    const auto key_of = [&](const char* what, long n) { return idem::make_key(what, n, forever); };
    const auto on = [&](long n) { allowed = n; };
    std::optional<idem::FileStore> store;
    idem::Reply reply;

    // Opening, with the directory there. Each time a store that did nothing before.
    with_each_allocation_failing(
        forever,
        [&](long n) {
          allowed = -1;
          store.emplace(place.path(), options);
          on(n);
          reply = store->open();
        },
        [&](long) {
          CHECK((reply.answer == Answer::ok || reply.answer == Answer::unavailable));
          CHECK(store->open().answer == Answer::ok);
          CHECK(witness.open().answer == Answer::ok);
        });

    // A claim, by one that was just opened: its first needs most.
    idem::Key key;
    with_each_allocation_failing(
        forever,
        [&](long n) {
          allowed = -1;
          key = key_of("claim", n);
          store.emplace(place.path(), options);
          if (n % 2 == 0) REQUIRE(store->open().answer == Answer::ok);
          const idem::ClaimRequest request = by_anybody();
          on(n);
          reply = store->claim(key, request);
        },
        [&](long) {
          const Answer found = witness.find(key).answer;
          if (reply.answer == Answer::acquired) {
            CHECK(found == Answer::running);
            CHECK(store->complete(key, fine(reply.record.owner, result)).answer == Answer::ok);
          } else {
            CHECK(reply.answer == Answer::unavailable);
            // Nothing was claimed, or it is given back by whoever comes next.
            CHECK(store->claim(key, by_anybody()).answer == Answer::acquired);
          }
          CHECK(witness.open().answer == Answer::ok);
        });

    const auto claimed = [&](const idem::Key& of) {
      const idem::Reply acquired = store->claim(of, by_anybody());
      REQUIRE(acquired.answer == Answer::acquired);
      return acquired.record.owner;
    };
    idem::Ownership owner;
    with_each_allocation_failing(
        forever,
        [&](long n) {
          allowed = -1;
          key = key_of("complete", n);
          owner = claimed(key);
          result.append(5000, 'r');  // more than the store has had room for yet
          const idem::FinishRequest request = fine(owner, result);
          on(n);
          reply = store->complete(key, request);
        },
        [&](long) {
          if (reply.answer != Answer::ok) {
            CHECK(reply.answer == Answer::unavailable);
            CHECK(witness.find(key).answer == Answer::running);
            CHECK(store->complete(key, fine(owner, result)).answer == Answer::ok);
          }
          const idem::Reply found = witness.find(key);
          CHECK(found.answer == Answer::completed);
          CHECK(found.payload.size() == result.size());
        });

    // A replay, of what the store knows already and of what it has yet to read.
    for (const bool known : {true, false}) {
      with_each_allocation_failing(
          forever,
          [&](long n) {
            allowed = -1;
            if (!known) store.emplace(place.path(), options);
            const idem::ClaimRequest request = by_anybody();
            on(n);
            reply = store->claim(key, request);
          },
          [&](long) {
            CHECK((reply.answer == Answer::completed || reply.answer == Answer::unavailable));
            if (reply.answer == Answer::completed) CHECK(reply.payload.size() == result.size());
            CHECK(store->claim(key, by_anybody()).answer == Answer::completed);
            CHECK(witness.open().answer == Answer::ok);
          });
    }

    // What a compaction, or its way back, leaves.
    with_each_allocation_failing(
        forever,
        [&](long n) {
          on(n);
          reply = store->compact();
        },
        [&](long) {
          CHECK((reply.answer == Answer::ok || reply.answer == Answer::unavailable));
          CHECK(witness.find(key).answer == Answer::completed);
          CHECK(idem::FileStore::verify(place.path()).good());
        });
  }
}

#endif
