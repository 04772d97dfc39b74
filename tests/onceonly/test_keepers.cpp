// The threads that renew leases: several at a time, and each lease by one of them.
#include <doctest/doctest.h>

#include <idem/onceonly/impl/keepers.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using idem::detail::boot_micros;

/// Something to be done at `due`, over and over where `every` isn't zero.
struct Task {
  std::int64_t due = 0;
  std::int64_t every = 0;
  bool blocks = false;
  bool in_hand = false;
  int done = 0;
};

/// An owner of keepers whose tasks may block until the test opens the gate.
class Owner {
 public:
  explicit Owner(std::size_t limit) : keepers_(*this, limit) {}
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  ~Owner() {
    open();
    keepers_.end();
  }

  std::shared_ptr<Task> add(Task task) {
    auto added = std::make_shared<Task>(task);
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(added);
    }
    keepers_.look();
    return added;
  }
  void open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }
  /// Waits until what is asked for holds; false after a minute.
  template <class Condition>
  bool until(Condition holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), holds);
  }
  void end() { keepers_.end(); }

  int busy = 0;
  int most_busy = 0;
  bool twice = false;  // one task was in two hands

  std::int64_t find_due(std::vector<std::shared_ptr<Task>>& due) {
    const std::lock_guard lock(mutex_);
    const std::int64_t now = boot_micros();
    std::int64_t next = now + 3'600'000'000;
    for (const auto& task : tasks_) {
      if (task->in_hand) continue;
      if (task->due > now) {
        next = (std::min)(next, task->due);
      } else {
        task->in_hand = true;
        due.push_back(task);
      }
    }
    return next;
  }
  std::int64_t look_after(const std::shared_ptr<Task>& task) {
    std::unique_lock lock(mutex_);
    most_busy = (std::max)(most_busy, ++busy);
    twice = twice || !task->in_hand;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_ || !task->blocks; });
    --busy;
    ++task->done;
    task->due = boot_micros() + (task->every == 0 ? std::int64_t{3'600'000'000} : task->every);
    task->in_hand = false;
    changed_.notify_all();
    return task->due;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Task>> tasks_;
  bool open_ = false;
  idem::onceonly::impl::Keepers<Owner, std::shared_ptr<Task>> keepers_;
};

}  // namespace

TEST_CASE("a renewal that takes long keeps no other one waiting") {
  Owner owner(3);
  owner.add({.blocks = true});
  owner.add({.blocks = true});
  REQUIRE(owner.until([&] { return owner.busy == 2; }));
  const auto quick = owner.add({});
  CHECK(owner.until([&] { return quick->done == 1; }));
  const auto again = owner.add({.every = 1000});
  CHECK(owner.until([&] { return again->done >= 5; }));
  CHECK(owner.until([&] { return owner.busy == 2; }));
  CHECK(owner.until([&] { return !owner.twice; }));
}

TEST_CASE("there are no more threads than were allowed, and what has to wait for one is done next") {
  Owner owner(2);
  std::vector<std::shared_ptr<Task>> tasks;
  for (int i = 0; i < 10; ++i) tasks.push_back(owner.add({.blocks = true}));
  REQUIRE(owner.until([&] { return owner.busy == 2; }));
  owner.open();
  for (const auto& task : tasks) CHECK(owner.until([&] { return task->done == 1; }));
  CHECK(owner.until([&] { return owner.most_busy == 2; }));
}

TEST_CASE("one thread alone does everything in turn") {
  Owner owner(1);
  std::vector<std::shared_ptr<Task>> tasks;
  for (int i = 0; i < 50; ++i) tasks.push_back(owner.add({.every = i % 2 == 0 ? 2000 : 0}));
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    CHECK(owner.until([&] { return tasks[i]->done >= (i % 2 == 0 ? 3 : 1); }));
  }
  CHECK(owner.until([&] { return owner.most_busy == 1; }));
}

TEST_CASE("many leases on many threads are each renewed again and again, by one thread at a time") {
  Owner owner(8);
  std::vector<std::shared_ptr<Task>> tasks;
  for (int i = 0; i < 200; ++i) tasks.push_back(owner.add({.every = 500 + 10 * i}));
  for (const auto& task : tasks) CHECK(owner.until([&] { return task->done >= 10; }));
  owner.end();
  CHECK(!owner.twice);
  CHECK(owner.busy == 0);
}

TEST_CASE("the end waits for what is being done") {
  Owner owner(1);
  owner.add({.blocks = true});
  REQUIRE(owner.until([&] { return owner.busy == 1; }));
  std::thread closing([&] { owner.end(); });
  owner.open();
  closing.join();
  CHECK(owner.busy == 0);
}
