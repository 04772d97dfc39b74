// The file path: idem with a FileStore beside what programs use without it, in one run on one directory.
//
// Prints a table of medians and, for each case and peer, a line `ratio CASE_idem_DURABILITY_vs_PEER VALUE`: how many
// times as many calls per second idem makes, larger is better for idem. README.md says what is measured and how.

#include <linux/magic.h>  // TMPFS_MAGIC
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>  // statfs
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "file_peers.hpp"
#include "invoice.hpp"

namespace {

using bench::Caller;
using bench::Invoice;
using bench::Peer;

struct Settings {
  std::string directory;
  std::string filter;
  int rounds = 5;
  double seconds = 0.3;
};

long sync_delay = 0;  // microseconds; what the C library's functions below ask for

/// What a slower disk would add.
int delayed(long result) {
  if (sync_delay > 0) {
    const timespec time = {sync_delay / 1'000'000, sync_delay % 1'000'000 * 1000};
    ::nanosleep(&time, nullptr);
  }
  return static_cast<int>(result);
}

constexpr int cold_users = 200'000;
constexpr int hot_users = 1'000;
constexpr double warm_up = 0.1;        // seconds
constexpr int calls_of_one = 1 << 22;  // users that one thread may use up

double amount_of(int user_id) {
  return 0.25 * user_id;
}

enum class Work { pair, cold_duplicate, hot_duplicate };

struct Case {
  const char* name;
  Work work;
  int processes;
  int threads;
};

constexpr std::array cases{
    Case{"pair_1t", Work::pair, 1, 1},
    Case{"pair_8t", Work::pair, 1, 8},
    Case{"pair_32t", Work::pair, 1, 32},
    Case{"pair_2p8t", Work::pair, 2, 8},
    Case{"cold_duplicate_1t", Work::cold_duplicate, 1, 1},
    Case{"cold_duplicate_8t", Work::cold_duplicate, 1, 8},
    Case{"hot_duplicate_1t", Work::hot_duplicate, 1, 1},
    Case{"hot_duplicate_8t", Work::hot_duplicate, 1, 8},
};

enum class Phase : int { wait, warm, measure, stop };

/// What the processes of one cell share. Lives in memory that fork(2) leaves shared.
struct Board {
  std::atomic<int> ready{0};
  std::atomic<Phase> phase{Phase::wait};
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> journal_end{0};
  std::atomic<std::uint64_t> claim_size{0};
  std::atomic<std::uint64_t> completion_size{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<Phase>::is_always_lock_free);

Board& board() {
  static Board* const shared = [] {
    void* const memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench::require(memory != MAP_FAILED, "mmap");
    return new (memory) Board;
  }();
  return *shared;
}

struct Contestant {
  const char* name;
  bool pairs;
  bool duplicates;
  /// Makes what is on disk, before the processes that are measured open it. May be empty.
  std::function<void(const std::string& directory)> prepare;
  std::function<std::unique_ptr<Peer>(const std::string& directory)> open;
  /// The same for duplicates: cold_users finished calls, once for all rounds.
  std::function<void(const std::string& directory)> fill;
};

const std::vector<Contestant>& contestants() {
  using Directory = const std::string&;
  const auto idem_peer = [](idem::Durability durability) {
    return [=](Directory directory) { return std::make_unique<bench::IdemPeer>(directory, durability); };
  };
  const auto sqlite_peer = [](const char* synchronous) {
    return [=](Directory directory) { return std::make_unique<bench::SqlitePeer>(directory, synchronous); };
  };
  const auto lmdb_peer = [](unsigned flags) {
    return [=](Directory directory) { return std::make_unique<bench::LmdbPeer>(directory, flags); };
  };
  // Written without waiting for the disk; the first duplicate then waits for all of it.
  const auto fill_idem = [](Directory directory) {
    bench::IdemPeer peer(directory, idem::Durability::process);
    const auto caller = peer.caller();
    for (int user_id = 0; user_id < cold_users; ++user_id) caller->pair(user_id, amount_of(user_id));
  };
  const auto fill_lmdb = [](Directory directory) { bench::LmdbPeer(directory, 0).fill(cold_users, amount_of); };
  static const std::vector<Contestant> all{
      {"idem_power", true, true, {}, idem_peer(idem::Durability::power), fill_idem},
      {"idem_process", true, false, {}, idem_peer(idem::Durability::process), {}},
      {"sqlite_full", true, false, sqlite_peer("FULL"), sqlite_peer("FULL"), {}},
      {"sqlite_normal", true, false, sqlite_peer("NORMAL"), sqlite_peer("NORMAL"), {}},
      {"lmdb_sync", true, true, {}, lmdb_peer(0), fill_lmdb},
      {"lmdb_nosync", true, false, {}, lmdb_peer(MDB_NOSYNC), {}},
      {"file_per_key",
       true,
       false,
       {},
       [](Directory directory) { return std::make_unique<bench::FilePerKeyPeer>(directory); },
       {}},
      {"bare_journal",
       true,
       false,
       [](Directory directory) { bench::JournalPeer::prepare(directory); },
       [](Directory directory) {
         const bench::JournalPeer::Frames frames{board().claim_size.load(), board().completion_size.load()};
         return std::make_unique<bench::JournalPeer>(directory, frames, board().journal_end);
       },
       {}},
  };
  return all;
}

/// Calls `work` in a child process, so that nothing of one cell is left in the next one's process.
template <class Function>
pid_t in_child(Function work) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  bench::require(child >= 0, "fork");
  if (child != 0) return child;
  work();
  std::_Exit(EXIT_SUCCESS);
}

void wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) bench::require(errno == EINTR, "waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) bench::give_up("a process of the benchmark", "failed");
}

std::vector<int> shuffled(int count) {
  std::vector<int> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(20240229);
  for (std::size_t left = order.size(); left > 1; --left) std::swap(order[left - 1], order[random() % left]);
  return order;
}

bool right(const Invoice& invoice, int user_id) {
  return invoice.id == user_id + 1 && invoice.amount == amount_of(user_id);
}

/// One thread: calls until it is told to stop, and the number of those that ended while it was measured. `call(n)`
/// makes the n-th one.
template <class Call>
void run(Call call) {
  Board& shared = board();
  shared.ready.fetch_add(1);
  while (shared.phase.load() == Phase::wait) std::this_thread::yield();
  std::uint64_t counted = 0;
  for (int at = 0;; ++at) {
    call(at);
    const Phase phase = shared.phase.load(std::memory_order_relaxed);
    if (phase == Phase::measure) ++counted;
    if (phase == Phase::stop) break;
  }
  shared.calls.fetch_add(counted);
}

void make_pairs(Caller& caller, int number) {
  const std::uint64_t before = bench::runs;
  int calls = 0;
  run([&](int at) {
    if (at == calls_of_one) bench::give_up("pairs", "no user is left; measure for a shorter time");
    const int user_id = number * calls_of_one + at;
    if (!right(caller.pair(user_id, amount_of(user_id)), user_id)) bench::give_up("pair", "a wrong invoice");
    calls = at + 1;
  });
  if (bench::runs - before != static_cast<std::uint64_t>(calls)) bench::give_up("pairs", "runs and calls differ");
}

void make_duplicates(Caller& caller, const std::vector<int>& order, std::size_t first) {
  std::size_t next = first;
  run([&](int) {
    const int user_id = order[next];
    if (!right(caller.duplicate(user_id, amount_of(user_id)), user_id)) bench::give_up("duplicate", "a wrong invoice");
    next = next + 1 == order.size() ? 0 : next + 1;
  });
  if (bench::runs != 0) bench::give_up("duplicate", "the function was run");
}

/// One process of a cell.
void serve(const Contestant& contestant, const Case& what, const std::string& directory, int process) {
  std::vector<int> order;
  if (what.work != Work::pair) order = shuffled(what.work == Work::cold_duplicate ? cold_users : hot_users);
  const auto peer = contestant.open(directory);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < what.threads; ++thread) {
    threads.emplace_back([&, thread] {
      const auto caller = peer->caller();
      if (what.work == Work::pair) {
        make_pairs(*caller, process * what.threads + thread);
      } else {
        make_duplicates(*caller, order,
                        order.size() * static_cast<std::size_t>(thread) / static_cast<std::size_t>(what.threads));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void pause(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// Calls per second of all threads of all processes together.
double measure(const Contestant& contestant, const Case& what, const std::string& directory, double seconds) {
  if (what.work == Work::pair && contestant.prepare) wait_for(in_child([&] { contestant.prepare(directory); }));
  Board& shared = board();
  shared.ready = 0;
  shared.calls = 0;
  shared.journal_end = 0;
  shared.phase = Phase::wait;
  std::vector<pid_t> processes;
  for (int process = 0; process < what.processes; ++process) {
    processes.push_back(in_child([&] { serve(contestant, what, directory, process); }));
  }
  while (shared.ready.load() != what.processes * what.threads) {
    for (const pid_t process : processes) {
      if (::waitpid(process, nullptr, WNOHANG) != 0) bench::give_up(contestant.name, "a process ended too early");
    }
    pause(0.001);
  }
  shared.phase = Phase::warm;
  pause(warm_up);
  const auto begin = std::chrono::steady_clock::now();
  shared.phase = Phase::measure;
  pause(seconds);
  shared.phase = Phase::stop;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  for (const pid_t process : processes) wait_for(process);
  return static_cast<double>(shared.calls.load()) / elapsed.count();
}

/// How many bytes idem's journal takes for a claim and for a completion, so that the bare journal's frames are alike.
void learn_frame_sizes(const std::string& directory) {
  wait_for(in_child([&] {
    idem::FileStore store(directory);
    const std::size_t empty = store.stats().bytes;
    std::size_t claimed = 0;
    const auto guard = idem::idempotent<"create_invoice">(
        [&](int user_id, double amount) {
          claimed = store.stats().bytes;
          return bench::create_invoice(user_id, amount);
        },
        store);
    guard(1'000'000, amount_of(1'000'000));
    board().claim_size = claimed - empty;
    board().completion_size = store.stats().bytes - claimed;
  }));
}

/// The rates of each cell, one for each round.
using Rates = std::map<std::pair<std::string, std::string>, std::vector<double>>;

bool takes_part(const Contestant& contestant, const Case& what, const Settings& settings) {
  if (!(what.work == Work::pair ? contestant.pairs : contestant.duplicates)) return false;
  const std::string name = std::string(what.name) + "/" + contestant.name;
  return name.find(settings.filter) != std::string::npos;
}

Rates measure_all(const Settings& settings) {
  namespace fs = std::filesystem;
  const fs::path base = fs::path(settings.directory);
  std::vector<std::pair<const Contestant*, const Case*>> cells;
  for (const Contestant& contestant : contestants()) {
    bool filled = false;
    for (const Case& what : cases) {
      if (!takes_part(contestant, what, settings)) continue;
      cells.emplace_back(&contestant, &what);
      if (what.work == Work::pair || filled) continue;
      const std::string directory = base / (std::string("filled_") + contestant.name);
      fs::create_directory(directory);
      wait_for(in_child([&] { contestant.fill(directory); }));
      filled = true;
    }
  }
  std::mt19937 random(20240229);
  Rates rates;
  for (int round = 0; round < settings.rounds; ++round) {
    for (std::size_t left = cells.size(); left > 1; --left) std::swap(cells[left - 1], cells[random() % left]);
    // Peers of one case follow each other, so that what else the machine does meets them alike.
    std::stable_sort(cells.begin(), cells.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    for (const auto& [contestant, what] : cells) {
      const bool pairs = what->work == Work::pair;
      const std::string directory = base / ((pairs ? "cell_" : "filled_") + std::string(contestant->name));
      if (pairs) fs::create_directory(directory);
      rates[{what->name, contestant->name}].push_back(measure(*contestant, *what, directory, settings.seconds));
      if (pairs) fs::remove_all(directory);
    }
  }
  return rates;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void print_table(const Rates& rates) {
  std::printf("calls per second of all threads together: median (least - most) of all rounds\n");
  for (const Case& what : cases) {
    for (const Contestant& contestant : contestants()) {
      const auto found = rates.find({what.name, contestant.name});
      if (found == rates.end()) continue;
      const auto [least, most] = std::minmax_element(found->second.begin(), found->second.end());
      std::printf("%-18s %-14s %9.0f (%.0f - %.0f)\n", what.name, contestant.name, median(found->second), *least,
                  *most);
    }
  }
}

void print_ratios(const Rates& rates) {
  constexpr std::array<std::pair<const char*, const char*>, 6> compared{{{"idem_power", "sqlite_full"},
                                                                         {"idem_power", "lmdb_sync"},
                                                                         {"idem_power", "file_per_key"},
                                                                         {"idem_power", "bare_journal"},
                                                                         {"idem_process", "sqlite_normal"},
                                                                         {"idem_process", "lmdb_nosync"}}};
  for (const Case& what : cases) {
    for (const auto& [ours, theirs] : compared) {
      const auto our_rates = rates.find({what.name, ours});
      const auto their_rates = rates.find({what.name, theirs});
      if (our_rates == rates.end() || their_rates == rates.end()) continue;
      std::vector<double> ratios;
      for (std::size_t round = 0; round < our_rates->second.size(); ++round) {
        ratios.push_back(our_rates->second[round] / their_rates->second[round]);
      }
      std::printf("ratio %s_%s_vs_%s %.2f\n", what.name, ours, theirs, median(ratios));
    }
  }
}

/// A directory of our own on the disk that is measured; gone at the end.
std::string make_directory(const std::string& above) {
  std::filesystem::create_directories(above);
  std::string path = above + "/file_bench.XXXXXX";
  bench::require(::mkdtemp(path.data()) != nullptr, "mkdtemp");
  struct statfs system = {};
  bench::require(::statfs(path.c_str(), &system) == 0, "statfs");
  if (system.f_type == TMPFS_MAGIC) bench::give_up(path.c_str(), "is on no disk");
  return path;
}

constexpr const char* known_options = "--directory, --rounds, --seconds, --filter and --sync-delay";

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int at = 1; at < argc; at += 2) {
    const std::string_view name = argv[at];
    const char* const value = at + 1 < argc ? argv[at + 1] : nullptr;
    if (value == nullptr) bench::give_up(argv[at], (std::string("needs a value, as all of ") + known_options).c_str());
    if (name == "--directory") {
      settings.directory = value;
    } else if (name == "--filter") {
      settings.filter = value;
    } else if (name == "--rounds") {
      settings.rounds = std::atoi(value);
    } else if (name == "--seconds") {
      settings.seconds = std::atof(value);
    } else if (name == "--sync-delay") {
      sync_delay = std::atol(value);
    } else {
      bench::give_up(argv[at], (std::string("is none of ") + known_options).c_str());
    }
  }
  if (settings.directory.empty()) bench::give_up("--directory", "say where, on the disk that is to be measured");
  if (settings.rounds < 1 || !(settings.seconds > 0)) bench::give_up("--rounds, --seconds", "have to be positive");
  return settings;
}

}  // namespace

// These stand before the C library's, for SQLite and LMDB, too.
extern "C" int fdatasync(int file) {
  return delayed(::syscall(SYS_fdatasync, file));
}
extern "C" int fsync(int file) {
  return delayed(::syscall(SYS_fsync, file));
}
extern "C" int msync(void* memory, std::size_t size, int flags) {
  return delayed(::syscall(SYS_msync, memory, size, flags));
}

int main(int argc, char** argv) {
  Settings settings = parse(argc, argv);
  if (sync_delay > 0) {
    bench::require(::prctl(PR_SET_TIMERSLACK, 1UL) == 0, "prctl");  // not 50 microseconds more
    std::printf("every fdatasync, fsync and msync takes %ld microseconds longer\n", sync_delay);
  }
  board();  // before there are children
  settings.directory = make_directory(settings.directory);
  const std::string sizes = settings.directory + "/sizes";
  learn_frame_sizes(sizes);
  std::printf("frames of idem: claim %llu bytes, completion %llu\n",
              static_cast<unsigned long long>(board().claim_size.load()),
              static_cast<unsigned long long>(board().completion_size.load()));
  const Rates rates = measure_all(settings);
  std::filesystem::remove_all(settings.directory);
  print_table(rates);
  print_ratios(rates);
  return EXIT_SUCCESS;
}
