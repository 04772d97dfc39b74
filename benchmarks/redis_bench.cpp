// The Redis path: idem with a RedisStore beside bare hiredis, in one run on one server of the benchmark's own.
//
// Prints a table of medians, what the server spent on each call, and for each case and peer a line `ratio
// CASE_idem_vs_PEER VALUE`: how many times as many calls per second idem makes, larger is better for idem. README.md
// says what is measured and how.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../tests/support/redis_groups.hpp"
#include "../tests/support/redis_server.hpp"
#include "invoice.hpp"
#include "redis_peers.hpp"

namespace {

using bench::Caller;
using bench::Invoice;
using bench::Peer;
using support::RedisServer;

struct Settings {
  std::string filter;
  bool cluster = false;
  int rounds = 9;
  double seconds = 0.3;
};

constexpr int known_users = 1'000;     // of duplicates
constexpr double warm_up = 0.1;        // seconds
constexpr int calls_of_one = 1 << 22;  // users that one thread may use up

double amount_of(int user_id) {
  return 0.25 * user_id;
}

enum class Work { pair, duplicate };

struct Case {
  const char* name;
  Work work;
  int threads;
};

constexpr std::array cases{
    Case{"pair_1t", Work::pair, 1},           Case{"pair_8t", Work::pair, 8},
    Case{"pair_32t", Work::pair, 32},         Case{"duplicate_1t", Work::duplicate, 1},
    Case{"duplicate_8t", Work::duplicate, 8}, Case{"duplicate_32t", Work::duplicate, 32},
};

struct Contestant {
  const char* name;
  std::function<std::unique_ptr<Peer>(std::uint16_t port)> open;
};

const std::array<Contestant, 4>& contestants() {
  static const std::array<Contestant, 4> all{{
      {"idem", [](std::uint16_t port) { return std::make_unique<bench::IdemPeer>(port); }},
      {"connections", [](std::uint16_t port) { return std::make_unique<bench::ConnectionsPeer>(port); }},
      {"mutex", [](std::uint16_t port) { return std::make_unique<bench::MutexPeer>(port); }},
      {"set", [](std::uint16_t port) { return std::make_unique<bench::SetPeer>(port); }},
  }};
  return all;
}

enum class Phase : int { wait, warm, measure, stop };

struct Board {
  std::atomic<int> ready{0};
  std::atomic<Phase> phase{Phase::wait};
  std::atomic<std::uint64_t> calls{0};
};

bool right(const Invoice& invoice, int user_id) {
  return invoice.id == user_id + 1 && invoice.amount == amount_of(user_id);
}

/// One thread: calls until it is told to stop. `call(n)` makes the n-th one.
template <class Call>
void run(Board& board, Call call) {
  board.ready.fetch_add(1);
  while (board.phase.load() == Phase::wait) std::this_thread::yield();
  std::uint64_t counted = 0;
  for (int at = 0;; ++at) {
    call(at);
    const Phase phase = board.phase.load(std::memory_order_relaxed);
    if (phase == Phase::measure) ++counted;
    if (phase == Phase::stop) break;
  }
  board.calls.fetch_add(counted);
}

void make_pairs(Board& board, Caller& caller, int number) {
  const std::uint64_t before = bench::runs;
  int calls = 0;
  run(board, [&](int at) {
    if (at == calls_of_one) bench::give_up("pairs", "no user is left; measure for a shorter time");
    const int user_id = known_users + number * calls_of_one + at;
    if (!right(caller.pair(user_id, amount_of(user_id)), user_id)) bench::give_up("pair", "a wrong invoice");
    calls = at + 1;
  });
  if (bench::runs - before != static_cast<std::uint64_t>(calls)) bench::give_up("pairs", "runs and calls differ");
}

void make_duplicates(Board& board, Caller& caller, int first) {
  const std::uint64_t before = bench::runs;
  run(board, [&](int at) {
    const int user_id = (first + at) % known_users;
    if (!right(caller.duplicate(user_id, amount_of(user_id)), user_id)) bench::give_up("duplicate", "a wrong invoice");
  });
  if (bench::runs != before) bench::give_up("duplicate", "the function was run");
}

void pause(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

struct Result {
  double rate;        // calls per second of all threads together
  double server_cpu;  // the server's seconds of processor time per call
};

void fill(Peer& peer) {
  const auto caller = peer.caller();
  for (int user_id = 0; user_id < known_users; ++user_id) caller->pair(user_id, amount_of(user_id));
}

/// `cpu()`: the processor time that the servers have used.
template <class Cpu>
Result measure(Peer& peer, const Case& what, double seconds, Cpu cpu_seconds) {
  if (what.work == Work::duplicate) fill(peer);
  Board board;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < what.threads; ++thread) {
    threads.emplace_back([&, thread] {
      const auto caller = peer.caller();
      if (what.work == Work::pair) {
        make_pairs(board, *caller, thread);
      } else {
        make_duplicates(board, *caller, known_users * thread / what.threads);
      }
    });
  }
  while (board.ready.load() != what.threads) pause(0.001);
  board.phase = Phase::warm;
  pause(warm_up);
  const double cpu = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  board.phase = Phase::measure;
  pause(seconds);
  board.phase = Phase::stop;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const double spent = cpu_seconds() - cpu;
  for (std::thread& thread : threads) thread.join();
  const auto calls = static_cast<double>(board.calls.load());
  return {calls / elapsed.count(), spent / calls};
}

Result measure(RedisServer& server, const Contestant& contestant, const Case& what, double seconds) {
  server.command({"FLUSHALL", "SYNC"});
  const auto peer = contestant.open(server.port());
  return measure(*peer, what, seconds, [&server] { return server.cpu_seconds(); });
}

/// The results of each cell, one for each round.
using Results = std::map<std::pair<std::string, std::string>, std::vector<Result>>;

Results measure_all(RedisServer& server, const Settings& settings) {
  std::vector<std::pair<const Contestant*, const Case*>> cells;
  for (const Contestant& contestant : contestants()) {
    for (const Case& what : cases) {
      const std::string name = std::string(what.name) + "/" + contestant.name;
      if (name.find(settings.filter) != std::string::npos) cells.emplace_back(&contestant, &what);
    }
  }
  std::mt19937 random(20240229);
  Results results;
  for (int round = 0; round < settings.rounds; ++round) {
    for (std::size_t left = cells.size(); left > 1; --left) std::swap(cells[left - 1], cells[random() % left]);
    // Peers of one case follow each other, so that what else the machine does meets them alike.
    std::stable_sort(cells.begin(), cells.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    for (const auto& [contestant, what] : cells) {
      results[{what->name, contestant->name}].push_back(measure(server, *contestant, *what, settings.seconds));
    }
  }
  return results;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<double> each(const std::vector<Result>& results, double Result::*what) {
  std::vector<double> values;
  for (const Result& result : results) values.push_back(result.*what);
  return values;
}

void print_table(const Results& results) {
  std::printf(
      "calls per second of all threads together: median (least - most) of all rounds; the server's processor time\n");
  for (const Case& what : cases) {
    for (const Contestant& contestant : contestants()) {
      const auto found = results.find({what.name, contestant.name});
      if (found == results.end()) continue;
      const std::vector<double> rates = each(found->second, &Result::rate);
      const auto [least, most] = std::minmax_element(rates.begin(), rates.end());
      std::printf("%-14s %-12s %8.0f (%.0f - %.0f)  %.1f us a call\n", what.name, contestant.name, median(rates),
                  *least, *most, 1e6 * median(each(found->second, &Result::server_cpu)));
    }
  }
}

void print_ratios(const Results& results) {
  for (const Case& what : cases) {
    for (const Contestant& contestant : contestants()) {
      const auto ours = results.find({what.name, "idem"});
      const auto theirs = results.find({what.name, contestant.name});
      if (ours == theirs || ours == results.end() || theirs == results.end()) continue;
      std::vector<double> rates, costs;
      for (std::size_t round = 0; round < ours->second.size(); ++round) {
        rates.push_back(ours->second[round].rate / theirs->second[round].rate);
        costs.push_back(ours->second[round].server_cpu / theirs->second[round].server_cpu);
      }
      std::printf("ratio %s_idem_vs_%s %.2f\n", what.name, contestant.name, median(rates));
      std::printf("server_cpu %s_idem_vs_%s %.2f\n", what.name, contestant.name, median(costs));
    }
  }
}

/// The server's own account of a command: how often, and microseconds in all.
struct Account {
  double calls = 0;
  double micros = 0;
};

Account account_of(RedisServer& server, const std::string& command) {
  Account account;
  const std::string line = server.info("commandstats", "cmdstat_" + command);
  if (std::sscanf(line.c_str(), "calls=%lf,usec=%lf", &account.calls, &account.micros) != 2) return {};
  return account;
}

/// What the server itself says that `calls` commands took, and what of it is the commands within the script.
void print_cost(RedisServer& server, const char* name, const std::string& command) {
  const Account whole = account_of(server, command);
  std::printf("cost %-10s %.2f us", name, whole.micros / whole.calls);
  if (command == "evalsha") {
    double rest = whole.micros;
    for (const char* const part : {"get", "time", "set"}) {
      const Account inner = account_of(server, part);
      rest -= inner.micros;
      std::printf(", %s %.2f", part, inner.micros / whole.calls);
    }
    std::printf(", Lua and the calls %.2f", rest / whole.calls);
  }
  std::printf("\n");
}

/// Script by script, each beside the plain command that does the least for the same end.
void print_costs(RedisServer& server) {
  constexpr int calls = 20'000;
  server.command({"FLUSHALL", "SYNC"});
  bench::Connection connection(server.port());
  bench::ScriptCaller<bench::Connection>::load(connection);
  bench::ScriptCaller<bench::Connection> scripts(nullptr, &connection);
  bench::SetPeer::Thread plain(server.port());
  std::vector<std::uint64_t> epochs;
  std::printf("on the server, by its own account:\n");

  server.reset_statistics();
  for (int user_id = 0; user_id < calls; ++user_id) epochs.push_back(scripts.claim(user_id));
  print_cost(server, "claim", "evalsha");
  server.reset_statistics();
  for (int user_id = 0; user_id < calls; ++user_id) {
    const idem::Ownership owner{scripts.owner_of(user_id), epochs[static_cast<std::size_t>(user_id)]};
    scripts.complete(user_id, owner, Invoice{user_id + 1, amount_of(user_id)});
  }
  print_cost(server, "complete", "evalsha");
  server.reset_statistics();
  for (int user_id = 0; user_id < calls; ++user_id) scripts.duplicate(user_id, amount_of(user_id));
  print_cost(server, "duplicate", "evalsha");

  server.reset_statistics();
  for (int user_id = 0; user_id < calls; ++user_id) plain.claim(plain.key_of(user_id));
  print_cost(server, "SET_NX_PX", "set");
  server.reset_statistics();
  for (int user_id = 0; user_id < calls; ++user_id) {
    plain.complete(plain.key_of(user_id), Invoice{user_id + 1, amount_of(user_id)});
  }
  print_cost(server, "SET_PX", "set");
}

/// How many commands and how many reads of its socket a duplicate of idem's takes.
void print_round_trips(RedisServer& server) {
  server.command({"FLUSHALL", "SYNC"});
  bench::IdemPeer peer(server.port());
  fill(peer);
  const auto caller = peer.caller();
  server.reset_statistics();
  for (int user_id = 0; user_id < known_users; ++user_id) caller->duplicate(user_id, amount_of(user_id));
  const long long reads = std::atoll(server.info("stats", "total_reads_processed").c_str());
  const long long scripts = server.calls("evalsha");
  const long long others = server.calls("eval") + server.calls("wait");
  // The reads of RESETSTAT's successor, INFO, are this program's own.
  std::printf("round_trips %d duplicates: evalsha %lld, eval and wait %lld, reads of the server's %lld\n", known_users,
              scripts, others, reads);
  if (scripts != known_users || others != 0) bench::give_up("duplicate", "isn't one round trip");
}

/// idem on three primaries and on one, in turns.
void compare_cluster(const Settings& settings) {
  support::RedisCluster cluster(support::RedisCluster::Replicas::none);
  cluster.await_service();
  RedisServer server;
  idem::RedisOptions there;
  there.cluster_nodes = cluster.addresses();
  idem::RedisOptions here;
  here.port = server.port();
  const auto cpu_of_all = [&] {
    double sum = 0;
    for (std::size_t i = 0; i < cluster.size(); ++i) sum += cluster[i].cpu_seconds();
    return sum;
  };
  for (const Case& what : cases) {
    if (std::string_view(what.name).find(settings.filter) == std::string_view::npos) continue;
    std::vector<double> many, one, rates, costs;
    for (int round = 0; round < settings.rounds; ++round) {
      for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i].command({"FLUSHALL", "SYNC"});
      server.command({"FLUSHALL", "SYNC"});
      const auto in_cluster = [&] {
        bench::IdemPeer peer(there);
        return measure(peer, what, settings.seconds, cpu_of_all);
      };
      const auto on_one = [&] {
        bench::IdemPeer peer(here);
        return measure(peer, what, settings.seconds, [&] { return server.cpu_seconds(); });
      };
      const bool cluster_first = round % 2 == 0;
      const Result first = cluster_first ? in_cluster() : on_one();
      const Result second = cluster_first ? on_one() : in_cluster();
      const Result& three = cluster_first ? first : second;
      const Result& single = cluster_first ? second : first;
      many.push_back(three.rate);
      one.push_back(single.rate);
      rates.push_back(three.rate / single.rate);
      costs.push_back(three.server_cpu / single.server_cpu);
    }
    std::printf("%-14s three primaries %8.0f, one %8.0f calls a second\n", what.name, median(many), median(one));
    std::printf("ratio %s_three_primaries_vs_one %.2f\n", what.name, median(rates));
    std::printf("server_cpu %s_three_primaries_vs_one %.2f\n", what.name, median(costs));
  }
}

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int at = 1; at < argc; at += 2) {
    const std::string_view name = argv[at];
    if (name == "--cluster") {
      settings.cluster = true;
      --at;
      continue;
    }
    const char* const value = at + 1 < argc ? argv[at + 1] : nullptr;
    if (value == nullptr)
      bench::give_up(argv[at], "needs a value: --rounds, --seconds or --filter, or --cluster without one");
    if (name == "--filter") {
      settings.filter = value;
    } else if (name == "--rounds") {
      settings.rounds = std::atoi(value);
    } else if (name == "--seconds") {
      settings.seconds = std::atof(value);
    } else {
      bench::give_up(argv[at], "unknown; there are --cluster, --rounds, --seconds and --filter");
    }
  }
  if (settings.rounds < 1 || !(settings.seconds > 0)) bench::give_up("--rounds, --seconds", "have to be positive");
  return settings;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = parse(argc, argv);
  try {
    if (settings.cluster) {
      compare_cluster(settings);
      return 0;
    }
    RedisServer server;
    std::printf("redis-server %s on the loopback\n", server.info("server", "redis_version").c_str());
    const Results results = measure_all(server, settings);
    print_table(results);
    print_costs(server);
    print_round_trips(server);
    print_ratios(results);
    return 0;
  } catch (const std::exception& error) {
    bench::give_up("redis-server", error.what());
  }
}
