// Many processes at one directory, killed and stopped at random, with a log of effects beside it.
#pragma once

#include <idem/file_store.hpp>
#include <idem/idem.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace file_soak {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

struct Settings {
  std::string path;  // an empty directory: the store's and the log's are made in it
  double seconds = 5;
  std::size_t processes = 16;
  std::uint64_t seed = 1;
};

struct Report {
  std::vector<std::string> failures;
  std::int64_t keys = 0;
  std::int64_t effects = 0;
  std::int64_t reruns = 0;
  std::int64_t kills = 0;
  std::int64_t stops = 0;
  std::int64_t recovered = 0;
  std::int64_t replayed = 0;

  bool good() const { return failures.empty(); }
};

inline constexpr std::int64_t window = 8;  // keys that are called at a time
inline constexpr std::int64_t most_keys = std::int64_t{1} << 20;
inline constexpr std::int64_t block = 1024;  // keys of one file of the log
inline constexpr std::size_t verdicts = 32;

/// What all processes see.
struct Board {
  std::atomic<std::int64_t> first;  // of the window; every key before it is finished
  std::atomic<std::int64_t> effects;
  std::atomic<bool> over;
  std::atomic<std::int64_t> seen[verdicts];
  std::atomic<std::int64_t> values[most_keys];  // the result that somebody was given; 0: nobody yet
  std::atomic<std::size_t> failures;
  char texts[16][240];

  void fail(const std::string& what) {
    const std::size_t number = failures.fetch_add(1);
    if (number < 16) std::snprintf(texts[number], sizeof texts[number], "%s", what.c_str());
  }
};

inline std::string log_of(const std::string& path, std::int64_t key) {
  return path + "/effects." + std::to_string(key / block);
}

/// One line, whole or not at all: a killed process leaves no half of so short a write.
inline void note(const std::string& path, std::int64_t key, const std::string& line) {
  const int file = ::open(log_of(path, key).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0 || ::write(file, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::abort();
  ::close(file);
}

struct Line {
  char what;  // E: an effect; R: somebody chose to run again what was in doubt
  std::int64_t key;
  std::int64_t id;
  std::uint64_t token;
};

inline std::vector<Line> read_log(const std::string& path, std::int64_t key) {
  std::vector<Line> lines;
  std::FILE* const file = std::fopen(log_of(path, key).c_str(), "re");
  if (file == nullptr) return lines;
  char what = 0;
  long long number = 0, id = 0;
  unsigned long long token = 0;
  while (std::fscanf(file, " %c %lld %lld %llu", &what, &number, &id, &token) == 4) {
    lines.push_back({what, number, id, token});
  }
  std::fclose(file);
  return lines;
}

/// What one process does until it is told to stop, or killed.
class Worker {
 public:
  Worker(const Settings& settings, Board& board, std::uint64_t seed) : settings_(settings), board_(board), seed_(seed) {}

  int run() {
    std::mt19937_64 random(seed_);
    idem::FileStoreOptions options;
    options.durability = random() % 2 == 0 ? idem::Durability::power : idem::Durability::process;
    options.lock_timeout = 120s;
    options.compact_at = 256 << 10;
    idem::FileStore store(settings_.path + "/store", options);
    const std::uint64_t kind = random() % 3;
    const bool two = random() % 4 == 0;
    std::thread second;
    if (two) second = std::thread([&, seed = random()] { call(store, kind, seed); });
    call(store, kind, random());
    if (two) second.join();
    return 0;
  }

 private:
  void call(idem::FileStore& store, std::uint64_t kind, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const bool reruns = kind == 1;
    const auto effect = [&](std::int64_t key, idem::Context& run) {
      const auto token = std::to_string(run.fencing_token());
      const auto number = std::to_string(key);
      if (reruns && run.attempt() > 1) note(settings_.path, key, "R " + number + " 0 " + token + "\n");
      perhaps_die(random);
      if (random() % 8 == 0) ::usleep(static_cast<useconds_t>(random() % 2000));
      const std::int64_t id = ++board_.effects;
      note(settings_.path, key, "E " + number + " " + std::to_string(id) + " " + token + "\n");
      perhaps_die(random);
      return id;
    };
    idem::Options options;
    options.wait_timeout = std::chrono::milliseconds(random() % 3 * 20);
    if (reruns) options.on_in_doubt = idem::OnInDoubt::rerun;
    // Those who ask find out from the log, as from the outside world. An owner that is gone adds nothing to it.
    const auto ask = [&](std::int64_t key) {
      std::optional<std::int64_t> last;
      perhaps_die(random);
      for (const Line& line : read_log(settings_.path, key)) {
        if (line.what == 'E' && line.key == key) last = line.id;
      }
      return last;
    };
    if (kind == 2) {
      loop(store, idem::idempotent<"soak">(effect, options, store, idem::recover_with(ask)), random);
    } else {
      loop(store, idem::idempotent<"soak">(effect, options, store), random);
    }
  }

  template <class Guard>
  void loop(idem::FileStore& store, const Guard& guard, std::mt19937_64& random) {
    while (!board_.over) {
      const std::int64_t first = board_.first;
      if (first + window >= most_keys) return;
      const std::int64_t key = first + static_cast<std::int64_t>(random() % window);
      const auto outcome = guard.try_call(key);
      judge(key, outcome);
      if (outcome.has_value() && key == first) {
        std::int64_t expected = first;
        board_.first.compare_exchange_strong(expected, first + 1);
      }
      if (random() % 400 == 0) other_things(store, random);
    }
  }

  template <class Outcome>
  void judge(std::int64_t key, const Outcome& outcome) {
    using idem::Verdict;
    ++board_.seen[static_cast<std::size_t>(outcome.verdict())];
    switch (outcome.verdict()) {
      case Verdict::executed:
      case Verdict::replayed:
      case Verdict::recovered: {
        std::int64_t known = 0;
        if (!board_.values[key].compare_exchange_strong(known, outcome.value()) && known != outcome.value()) {
          board_.fail("key " + std::to_string(key) + " gave " + std::to_string(outcome.value()) + " after " +
                      std::to_string(known));
        }
        break;
      }
      case Verdict::in_progress:
      case Verdict::in_doubt:
        break;
      default:
        board_.fail("key " + std::to_string(key) + ": verdict " +
                    std::to_string(static_cast<int>(outcome.verdict())) + ": " + std::string(outcome.error().message));
    }
  }

  void other_things(idem::FileStore& store, std::mt19937_64& random) {
    switch (random() % 4) {
      case 0:
        if (const auto reply = store.compact();
            reply.answer != idem::Answer::ok && reply.message.find("cut off") == std::string::npos) {
          board_.fail("compact: " + reply.message);
        }
        break;
      case 1: {
        const idem::StoreStats stats = store.stats();
        if (stats.poisoned || stats.damaged) board_.fail("stats say poisoned or damaged");
        break;
      }
      case 2: {
        const idem::PurgeResult purged = store.purge({});
        if (purged.expired != 0 || purged.in_doubt != 0) board_.fail("purge removed what hadn't expired");
        break;
      }
      default:
        std::size_t records = 0;
        store.for_each([&](const idem::RecordView&) { ++records; });
    }
  }

  static void perhaps_die(std::mt19937_64& random) {
    if (random() % 60 == 0) ::raise(SIGKILL);
  }

  const Settings& settings_;
  Board& board_;
  std::uint64_t seed_;
};

/// Starts the processes, does them harm, and looks at what is left.
class Soak {
 public:
  explicit Soak(const Settings& settings) : settings_(settings), random_(settings.seed) {
    void* const memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    board_ = ::new (memory) Board{};
  }
  ~Soak() { ::munmap(board_, sizeof(Board)); }
  Soak(const Soak&) = delete;
  Soak& operator=(const Soak&) = delete;

  Report run() {
    workers_.resize(settings_.processes);
    for (Process& worker : workers_) start(worker);
    const auto end = SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(
                                              std::chrono::duration<double>(settings_.seconds));
    while (SteadyClock::now() < end && board_->failures == 0) {
      harm();
      ::usleep(static_cast<useconds_t>(random_() % 8000));
    }
    finish();
    check();
    return std::move(report_);
  }

 private:
  struct Process {
    pid_t pid = 0;
    bool stopped = false;
    SteadyClock::time_point resume = {};
  };

  void start(Process& worker) {
    const std::uint64_t seed = random_();
    worker = {};
    worker.pid = ::fork();
    if (worker.pid < 0) std::abort();
    if (worker.pid > 0) return;
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::_exit(Worker(settings_, *board_, seed).run());
  }

  void harm() {
    const auto now = SteadyClock::now();
    for (Process& worker : workers_) {
      if (worker.stopped && worker.resume <= now) {
        ::kill(worker.pid, SIGCONT);
        worker.stopped = false;
      }
      int status = 0;
      if (::waitpid(worker.pid, &status, WNOHANG) == worker.pid) {
        ended(status);
        start(worker);
      }
    }
    Process& victim = workers_[random_() % workers_.size()];
    if (random_() % 2 == 0) {
      ::kill(victim.pid, SIGKILL);
      int status = 0;
      while (::waitpid(victim.pid, &status, 0) < 0 && errno == EINTR) {
      }
      ended(status);
      start(victim);
    } else if (!victim.stopped) {
      ::kill(victim.pid, SIGSTOP);
      victim.stopped = true;
      victim.resume = now + std::chrono::milliseconds(random_() % 60);
      ++report_.stops;
    }
  }

  void ended(int status) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
      ++report_.kills;
    } else if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
      report_.failures.push_back("a process ended with the status " + std::to_string(status));
    }
  }

  void finish() {
    board_->over = true;
    // All of them, before any is waited for: one that stands still with the lock held keeps the others.
    for (const Process& worker : workers_) ::kill(worker.pid, SIGCONT);
    const auto end = SteadyClock::now() + 60s;
    for (Process& worker : workers_) {
      int status = 0;
      while (::waitpid(worker.pid, &status, WNOHANG) == 0) {
        if (SteadyClock::now() > end) {
          report_.failures.push_back("process " + std::to_string(worker.pid) + " hangs");
          if (std::getenv("IDEM_SOAK_DEBUG") != nullptr) ::pause();
          ::kill(worker.pid, SIGKILL);
          ::waitpid(worker.pid, &status, 0);
          status = 0;
          break;
        }
        ::usleep(2000);
      }
      ended(status);
    }
  }

  void check() {
    const auto fail = [this](std::int64_t key, const std::string& what) {
      if (report_.failures.size() < 20) report_.failures.push_back("key " + std::to_string(key) + ": " + what);
    };
    for (std::size_t i = 0; i < (std::min)(board_->failures.load(), std::size_t{16}); ++i) {
      report_.failures.emplace_back(board_->texts[i]);
    }
    report_.keys = board_->first;
    report_.recovered = board_->seen[static_cast<std::size_t>(idem::Verdict::recovered)];
    report_.replayed = board_->seen[static_cast<std::size_t>(idem::Verdict::replayed)];
    if (report_.keys == 0) report_.failures.emplace_back("nothing was finished");

    const idem::FileReport found = idem::FileStore::verify(settings_.path + "/store");
    if (!found.good()) report_.failures.emplace_back("verify() finds something wrong");
    idem::FileStore store(settings_.path + "/store", {.durability = idem::Durability::process});
    const auto guard = idem::idempotent<"soak">([](std::int64_t key) { return key; }, store);
    for (std::int64_t from = 0; from < report_.keys + window; from += block) {
      std::map<std::int64_t, std::vector<Line>> of_key;
      for (const Line& line : read_log(settings_.path, from)) of_key[line.key].push_back(line);
      for (std::int64_t key = from; key < (std::min)(from + block, report_.keys + window); ++key) {
        std::int64_t effects = 0, reruns = 0;
        Line last = {};
        for (const Line& line : of_key[key]) {
          ++(line.what == 'E' ? effects : reruns);
          if (line.what != 'E') continue;
          if (line.token <= last.token) fail(key, "a fencing token didn't grow");
          last = line;
        }
        report_.effects += effects;
        report_.reruns += reruns;
        if (effects > 1 + reruns) {
          fail(key, std::to_string(effects) + " effects, though only " + std::to_string(reruns) + " were chosen");
        }
        const std::int64_t value = board_->values[key];
        if (value != 0 && value != last.id) fail(key, "its result isn't that of its last effect");
        if (key >= report_.keys) continue;
        if (effects == 0) fail(key, "finished without an effect");
        const auto outcome = guard.find(key);
        if (!outcome.has_value() || !outcome->has_value()) {
          fail(key, "its outcome is gone");
        } else if (outcome->value() != last.id) {
          fail(key, "another outcome was recorded than that of its last effect");
        }
      }
    }
    if (store.stats().processes != 1) report_.failures.emplace_back("owner files of the dead are left");
  }

  const Settings settings_;
  std::mt19937_64 random_;
  Board* board_;
  std::vector<Process> workers_;
  Report report_;
};

}  // namespace file_soak
