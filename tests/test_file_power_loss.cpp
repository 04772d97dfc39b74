// What is left of a store when the file system below it loses all that it hadn't written to its disk.
//
// Other tests cut journals as a model says. Here a real file system lies on a device that is a file: a copy of that file,
// taken while everybody is stopped, is what a machine would find on its disk after it lost its power. It needs root and
// a loop device, and is left out where there are none.
#include "support/process_support.hpp"
#include "support/store_files.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#if defined(__linux__)
#include <sched.h>  // unshare
#include <sys/mount.h>

namespace file_power_loss {

using namespace store_files;
using process_support::Child;

/// How far a call has got. Before each step it's said that it is tried, and afterwards that it was answered.
enum Step : std::uint8_t { nothing, claiming, was_claimed, completing, was_completed, erasing, was_erased };

constexpr std::size_t workers = 3;
constexpr std::size_t threads = 2;
constexpr std::size_t calls = 1000;  // of each thread

struct Board {
  std::array<std::array<std::atomic<Step>, calls>, workers * threads> steps;
  std::atomic<std::size_t> answered;
  std::atomic<std::size_t> refused;
};

std::string name_of(std::size_t thread, std::size_t call) {
  return std::to_string(thread) + "." + std::to_string(call);
}
std::string result_of(std::size_t thread, std::size_t call) {
  return std::string(call % 5 == 0 ? 700 : 20, static_cast<char>('a' + (thread + call) % 26));
}

FileStoreOptions options() {
  FileStoreOptions wanted = with(Durability::power);
  wanted.compact_at = 32 << 10;  // every now and then while the power may fail
  wanted.lock_timeout = std::chrono::minutes(1);  // its holder may be among those who are stopped
  return wanted;
}

void call(FileStore& store, Board& board, std::size_t thread) {
  for (std::size_t number = 0; number < calls; ++number) {
    std::atomic<Step>& step = board.steps[thread][number];
    const std::string name = name_of(thread, number);
    step = claiming;
    const Reply claimed = claim(store, name);
    if (claimed.answer != Answer::acquired) {
      ++board.refused;
      continue;
    }
    step = was_claimed;
    ++board.answered;
    if (number % 7 == 0) continue;
    step = completing;
    const std::string result = result_of(thread, number);
    if (store.complete(key_of(name), outcome(claimed.record.owner, result)).answer != Answer::ok) {
      ++board.refused;
      continue;
    }
    step = was_completed;
    ++board.answered;
    if (number % 3 != 0) continue;
    step = erasing;
    if (store.erase(key_of(name)).answer != Answer::ok) {
      ++board.refused;
      continue;
    }
    step = was_erased;
    ++board.answered;
  }
}

bool may_be(Step step, Answer answer) {
  switch (step) {
    case nothing:
    case was_erased:
      return answer == Answer::absent;
    case claiming:
      return answer == Answer::absent || answer == Answer::in_doubt;
    case was_claimed:
      return answer == Answer::in_doubt;
    case completing:
      return answer == Answer::in_doubt || answer == Answer::completed;
    case was_completed:
      return answer == Answer::completed;
    case erasing:
      return answer == Answer::completed || answer == Answer::absent;
  }
  return false;
}

bool runs(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

/// A file system in a file, seen by this process alone.
class Mounted {
 public:
  Mounted(const std::string& image, const std::string& on) : path_(on) {
    good_ = runs("mount -o loop " + image + " " + on);
  }
  ~Mounted() {
    if (good_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  explicit operator bool() const { return good_; }

 private:
  std::string path_;
  bool good_ = false;
};

/// What contradicts what was answered; empty where nothing does.
std::string contradictions(FileStore& store, const std::vector<std::vector<Step>>& steps) {
  std::string text;
  for (std::size_t thread = 0; thread < steps.size(); ++thread) {
    for (std::size_t number = 0; number < calls; ++number) {
      const Step step = steps[thread][number];
      if (step == nothing && number % 50 != 0) continue;
      const Reply found = store.find(key_of(name_of(thread, number)));
      const bool right = found.answer != Answer::completed || payload_of(found) == result_of(thread, number);
      if (may_be(step, found.answer) && right) continue;
      text += name_of(thread, number) + " after step " + std::to_string(int(step)) + ": answer " +
              std::to_string(int(found.answer)) + " " + found.message + "; ";
      if (text.size() > 500) return text;
    }
  }
  return text;
}

void lose_power(const std::string& make, const std::string& mend, std::size_t losses, std::uint64_t seed) {
  Directory place;
  const std::string image = place / "disk";
  const std::string copy = place / "copy";
  const std::string here = place / "here";
  const std::string after = place / "after";
  REQUIRE(::mkdir(here.c_str(), 0700) == 0);
  REQUIRE(::mkdir(after.c_str(), 0700) == 0);
  // Mounts of this process's own go with it, whatever happens to it.
  const bool alone = ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  if (!alone || !runs("truncate -s 32M " + image) || !runs(make + " " + image)) {
    MESSAGE("left out: it needs root, " << make << " and mount namespaces");
    return;
  }
  const Mounted disk(image, here);
  if (!disk) {
    MESSAGE("left out: no loop device can be mounted");
    return;
  }
  const process_support::Shared<Board> board;
  std::vector<std::unique_ptr<Child>> children;
  for (std::size_t worker = 0; worker < workers; ++worker) {
    children.push_back(std::make_unique<Child>([&, worker] {
      FileStore store(here + "/store", options());
      std::vector<std::thread> callers;
      for (std::size_t thread = 0; thread < threads; ++thread) {
        callers.emplace_back([&, thread] { call(store, *board, worker * threads + thread); });
      }
      for (std::thread& caller : callers) caller.join();
      for (;;) ::pause();  // its claims stay those of a living owner
      return 0;
    }));
  }
  Dice dice(seed);
  std::size_t reached = 0;
  for (std::size_t loss = 0; loss < losses; ++loss) {
    CAPTURE(loss);
    // All calls together are answered about this often; the last loss comes when most of them have been made.
    const std::size_t all = workers * threads * calls;
    reached += 1 + dice.below(2 * all / losses);
    REQUIRE(process_support::eventually([&] {
      ::usleep(500);  // leaves the processor to those who work
      return board->answered + board->refused >= (std::min)(reached, all);
    }));
    for (const auto& child : children) child->stop();
    REQUIRE(runs("cp --sparse=always " + image + " " + copy));
    std::vector<std::vector<Step>> steps(workers * threads);
    for (std::size_t thread = 0; thread < steps.size(); ++thread) {
      steps[thread].assign(board->steps[thread].begin(), board->steps[thread].end());
    }
    for (const auto& child : children) child->kill(SIGCONT);

    static_cast<void>(mend.empty() || runs(mend + " " + copy));
    const Mounted found(copy, after);
    REQUIRE(found);
    {
      FileStore store(after + "/store", options());
      const std::string wrong = contradictions(store, steps);
      REQUIRE_MESSAGE(wrong.empty(), wrong);
      CHECK_FALSE(store.stats().damaged);
      const std::string troubled = trouble(store, "after");
      REQUIRE_MESSAGE(troubled.empty(), troubled);
    }
    const idem::FileReport report = FileStore::verify(after + "/store");
    REQUIRE_MESSAGE(report.good(), report.message);
  }
  CHECK(board->refused == 0);
}

}  // namespace file_power_loss

using namespace file_power_loss;

TEST_CASE("FDU-16, FDU-02, FDU-03: what a journaling file system has on its disk holds all that was answered") {
  lose_power("mkfs.ext4 -q -F", "", 8, 1);
}

TEST_CASE("FDU-16, FDU-02, FDU-03: so does one without a journal, once it's repaired") {
  lose_power("mkfs.ext4 -q -F -O ^has_journal", "e2fsck -f -y", 8, 2);
}

TEST_CASE("FDU-16: a soak of losing what isn't on a file system's disk" * doctest::skip()) {
  for (std::uint64_t seed = 3; seed < 10; ++seed) {
    lose_power("mkfs.ext4 -q -F", "", 40, seed);
    lose_power("mkfs.ext4 -q -F -O ^has_journal", "e2fsck -f -y", 40, seed);
  }
}

#endif
