#include <doctest/doctest.h>

#include <idem/clock.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using idem::detail::SharedObject;

struct Counted {
  explicit Counted(int& alive) : alive_(&alive) { ++*alive_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --*alive_; }
  int* alive_;
};

}  // namespace

TEST_CASE("MEM: a shared object lives for as long as any of its handles, and is destroyed once") {
  int alive = 0;
  SharedObject first = SharedObject::make<Counted>(alive);
  CHECK(alive == 1);
  {
    const SharedObject copy = first;
    CHECK(copy.get() == first.get());
    SharedObject moved = std::move(first);
    CHECK(moved.get() == copy.get());
    CHECK(first.get() == nullptr);
    first = std::move(moved);
  }
  CHECK(alive == 1);
  CHECK(&first.as<Counted>() == first.get());
  const SharedObject& itself = first;
  first = itself;
  CHECK(alive == 1);
  first = SharedObject::make<Counted>(alive);
  CHECK(alive == 1);
  first = SharedObject();
  CHECK(alive == 0);
  CHECK(first.get() == nullptr);
}

TEST_CASE("MEM: threads copy and drop handles of one shared object at once") {
  SharedObject text = SharedObject::make<std::string>("held by all of them, and long enough to be allocated");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([held = text] {
      for (int round = 0; round < 1000; ++round) {
        const SharedObject copy = held;
        if (copy.as<std::string>().empty()) std::abort();
      }
    });
  }
  text = SharedObject();
  for (std::thread& thread : threads) thread.join();
}

#if IDEM_EXCEPTIONS
TEST_CASE("MEM: an object whose constructor throws leaves nothing behind") {
  struct Throws {
    Throws() { throw std::runtime_error("no"); }
  };
  CHECK_THROWS_AS(SharedObject::make<Throws>(), std::runtime_error);
}
#endif

TEST_CASE("a handler and a clock that were moved from are empty") {
  int events = 0;
  idem::EventHandler handler = [&](const idem::Event&) { ++events; };
  const idem::EventHandler taken = std::move(handler);
  CHECK(taken);
  CHECK_FALSE(handler);  // NOLINT: what is left is the point
  handler(idem::Event{idem::EventKind::claimed, idem::Key{}});
  CHECK(events == 0);
  idem::Clock clock = [] { return idem::TimePoint{}; };
  const idem::Clock kept = std::move(clock);
  CHECK(kept);
  CHECK_FALSE(clock);  // NOLINT
}
