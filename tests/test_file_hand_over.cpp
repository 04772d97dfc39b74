// What threads of one process hand to each other, and what a process leaves behind that is killed while it writes to
// mapped memory.
#include <doctest/doctest.h>

#include "support/process_support.hpp"
#include "support/store_files.hpp"

#include <idem/detail/endian.hpp>
#include <idem/detail/file/turn.hpp>
#include <idem/file_store.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace store_files;
using process_support::Child;

namespace {

/// What a turn sleeps on where the test says who goes on, and what time it is. Whoever wasn't notified and goes on has
/// slept for long enough.
struct ByHand {
  class Sleepers {
   public:
    void wait_for(std::unique_lock<std::mutex>& lock, std::chrono::microseconds) {
      std::unique_lock guard(mutex_);
      const std::size_t mine = all_.size();
      all_.push_back({this});
      changed_.notify_all();
      lock.unlock();
      changed_.wait(guard, [mine] { return over_ || all_[mine].goes_on; });
      guard.unlock();
      lock.lock();
    }
    void notify_one() noexcept {
      const std::lock_guard guard(mutex_);
      for (Sleeper& sleeper : all_) {
        if (sleeper.on != this || sleeper.notified || sleeper.goes_on) continue;
        sleeper.notified = true;
        return;
      }
    }
  };

  static std::int64_t now() noexcept { return time_; }
  static void pass(std::int64_t micros) { time_ += micros; }

  static void begin() {
    all_.clear();
    over_ = false;
  }
  /// Waits until so many have fallen asleep since the beginning.
  static void await(std::size_t sleepers) {
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [sleepers] { return all_.size() >= sleepers; });
  }
  static bool notified(std::size_t sleeper) {
    const std::lock_guard guard(mutex_);
    return all_[sleeper].notified;
  }
  static void go_on(std::size_t sleeper) {
    const std::lock_guard guard(mutex_);
    all_[sleeper].goes_on = true;
    changed_.notify_all();
  }
  /// From now on nobody sleeps any more.
  static void end() {
    const std::lock_guard guard(mutex_);
    over_ = true;
    changed_.notify_all();
  }

 private:
  struct Sleeper {
    Sleepers* on = nullptr;
    bool notified = false;
    bool goes_on = false;
  };

  static inline std::mutex mutex_;
  static inline std::condition_variable changed_;
  static inline std::vector<Sleeper> all_;
  static inline bool over_ = false;
  static inline std::atomic<std::int64_t> time_{5'000'000};
};

using TurnByHand = file::BasicTurn<ByHand>;

/// A thread that takes the turn and gives it back.
std::thread taker(TurnByHand& turn, std::int64_t micros = 60'000'000) {
  return std::thread([&turn, micros] {
    if (turn.take(micros)) turn.give_back();
  });
}

}  // namespace

TEST_CASE("FDU-01: a frame whose writer was killed after any of its bytes is cleared away, also by stores that are open") {
  const Directory place;
  const std::string journal = place.path() + "/journal";
  FileStore store(place.path(), with(Durability::process));
  FileStore other(place.path(), with(Durability::process));
  const std::uint64_t begin = [&] {
    completed(store, "first", "kept");
    return store.stats().bytes;
  }();
  claimed(store, "killed");
  const Content bytes = read(journal);
  const std::size_t size = store.stats().bytes - begin;
  REQUIRE(store.erase(key_of("killed")).answer == Answer::refused);
  file::JournalHeader header;
  const char* why = nullptr;
  REQUIRE(file::decode_header(bytes.data(), bytes.size(), header, why));
  const file::FrameSeal seal(header);

  for (std::size_t written = 1; written <= size; ++written) {
    // The same claim once more, as it would stand behind what is there now.
    FileStore& next = written % 2 == 0 ? store : other;
    const std::uint64_t end = next.stats().bytes;
    const std::string key = "after " + std::to_string(written);
    Content frame(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                  bytes.begin() + static_cast<std::ptrdiff_t>(begin + size));
    idem::detail::store_le64(frame.data() + file::frame_impl::at_sequence, std::uint64_t{written} << 40);
    file::move_frame(frame.data(), seal, end, file::journal_header_size);
    write_at(journal, end, frame.data(), written);

    // Zeros at its end needn't be written for it to be there.
    bool whole = true;
    for (std::size_t i = written; i < size; ++i) whole = whole && frame[i] == 0;
    CAPTURE(written);
    CHECK(next.stats().bytes == (whole ? end + size : end));
    CHECK(trouble(next, key) == "");
    CHECK(next.find(key_of("first")).answer == Answer::completed);
    CHECK(next.find(key_of("killed")).answer == Answer::running);
  }
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("FDU-01: of a frame that is put into memory the first word is there before anything else is") {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const memory = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto* const bytes = static_cast<std::uint8_t*>(memory);
  const Content frame(400, 0xa5);
  // The second page can't be written: whoever goes on to it is killed.
  for (const std::size_t first : {std::size_t{8}, std::size_t{16}, std::size_t{64}, std::size_t{392}}) {
    CAPTURE(first);
    std::memset(bytes, 0, page);
    Child writer([&] {
      ::signal(SIGSEGV, SIG_DFL);
      if (::mprotect(bytes + page, page, PROT_NONE) != 0) return 1;
      file::put_frame(bytes + page - first, frame.data(), frame.size());
      return 2;
    });
    const int end = writer.wait();
    CHECK(end != 2);  // a sanitizer ends it in its own way
    CHECK(end != 1);
    CHECK(std::memcmp(bytes + page - first, frame.data(), 8) == 0);
  }
  ::munmap(memory, 2 * page);
}

TEST_CASE("FLK-09: threads that take turns exclude each other, and each gets its own") {
  file::Turn turn;
  int inside = 0;
  std::uint64_t turns = 0;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        if (!turn.take(60'000'000)) {
          ++wrong;
          continue;
        }
        if (++inside != 1) ++wrong;
        ++turns;
        --inside;
        turn.give_back();
        if (i % 3 == 0) turn.leave();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(turns == 16'000);
}

TEST_CASE("FLK-09: of those who sleep for a turn one looks again by itself, also when who was to do so went away") {
  for (const bool gives_up : {false, true}) {
    CAPTURE(gives_up);
    ByHand::begin();
    TurnByHand turn;
    REQUIRE(turn.take(0));
    std::thread first = taker(turn);
    ByHand::await(1);
    std::thread second = taker(turn, 500);
    ByHand::await(2);
    std::thread third = taker(turn);
    ByHand::await(3);
    turn.give_back();
    REQUIRE(ByHand::notified(0));
    // Somebody who is awake uses it meanwhile, so that no release wakes anybody for a while.
    REQUIRE(turn.take(0));
    turn.give_back();
    ByHand::go_on(0);
    first.join();
    REQUIRE(ByHand::notified(1));
    REQUIRE_FALSE(ByHand::notified(2));
    if (gives_up) {
      REQUIRE(turn.take(0));
      ByHand::pass(500);
    }
    ByHand::go_on(1);
    second.join();
    // Nobody else is there to wake the third one, or to look out for it.
    CHECK(ByHand::notified(2));
    if (gives_up) turn.give_back();
    ByHand::end();
    third.join();
  }
}

TEST_CASE("a turn that isn't to be had in time is given up, and harms nobody") {
  file::Turn turn;
  REQUIRE(turn.take(0));
  for (const std::int64_t micros : {0, 1, 700, 3000}) {
    bool had = true;
    std::thread([&] { had = turn.take(micros); }).join();
    CHECK_FALSE(had);
  }
  // The last one had waited for so long that it would have been the next.
  CHECK_FALSE(turn.wanted());
  turn.give_back();
  CHECK(turn.take(0));
  CHECK_FALSE(turn.take_unwanted());
  turn.give_back();
  CHECK(turn.take_unwanted());
}

TEST_CASE("FLK-09: the lock isn't left to threads that give up, nor kept from other stores by those that don't") {
  const Directory place;
  FileStoreOptions patient = with(Durability::process);
  FileStoreOptions hasty = patient;
  hasty.lock_timeout = std::chrono::microseconds(1);
  patient.lock_timeout = std::chrono::seconds(60);
  FileStore hurried(place.path(), hasty);
  FileStore one(place.path(), patient);
  FileStore two(place.path(), patient);
  REQUIRE(one.open().answer == Answer::ok);
  for (Answer answer = Answer::unavailable; answer != Answer::ok;) answer = hurried.open().answer;
  std::atomic<int> wrong{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      FileStore& store = thread % 2 == 0 ? one : two;
      for (int i = 0; i < 300; ++i) {
        if (!trouble(store, std::to_string(thread) + " " + std::to_string(i)).empty()) ++wrong;
      }
    });
  }
  std::vector<std::thread> hurrying;
  for (int thread = 0; thread < 4; ++thread) {
    hurrying.emplace_back([&] {
      while (!done) {
        const Answer answer = hurried.find(key_of("nothing")).answer;
        if (answer != Answer::absent && answer != Answer::unavailable) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  for (std::thread& thread : hurrying) thread.join();
  CHECK(wrong == 0);
  // Nobody has it any more.
  FileStore last(place.path(), hasty);
  Answer answer = Answer::unavailable;
  for (int i = 0; i < 100 && answer != Answer::ok; ++i) answer = last.open().answer;
  CHECK(answer == Answer::ok);
}
