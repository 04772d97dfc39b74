// The memory path: idem with a MemoryStore beside what programs use without it, in one process and one run.
//
// Prints a table of medians in nanoseconds per call and, for each work, number of threads and peer, a line
// `ratio WORK_THREADSt_vs_PEER VALUE`: the peer's median over idem's, larger is better for idem. The last line is
// `allocations hot_duplicate N`, heap allocations per hot duplicate of idem. README.md says what is measured and how.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <idem/idempotent.hpp>
#include <idem/memory_store.hpp>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "invoice.hpp"
#include "peers.hpp"

namespace {

// Per thread, so that counting costs the peers, which do allocate, one increment and no shared cache line.
constinit thread_local std::uint64_t allocations = 0;

void* allocate(std::size_t size) {
  ++allocations;
  if (void* const memory = std::malloc((std::max)(size, std::size_t{1}))) {
    return memory;
  }
  throw std::bad_alloc();
}

void* allocate(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto boundary = static_cast<std::size_t>(alignment);
  // aligned_alloc wants a multiple of the alignment.
  const std::size_t rounded = ((std::max)(size, std::size_t{1}) + boundary - 1) / boundary * boundary;
  if (void* const memory = std::aligned_alloc(boundary, rounded)) {
    return memory;
  }
  throw std::bad_alloc();
}

}  // namespace

// The forms that are not here (nothrow) are defined by the standard library through these.
void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return allocate(size, alignment); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using namespace std::chrono_literals;

constexpr std::size_t cold_keys = 200'000;
constexpr std::size_t hot_keys = 1'000;
constexpr std::size_t hot_rounds = 200;  // a hot repetition has as many calls per thread as a cold one
constexpr const char* counter_name = "ns_per_call";
constexpr std::array<const char*, 3> work_names{"first_call", "hot_duplicate", "cold_duplicate"};
constexpr std::array<const char*, 3> guard_names{"idem", "handwritten", "tbb"};
constexpr const char* text_key_name = "text_key";

// Set by a repetition that returned wrong invoices or ran the function more or less often than it should.
bool wrong_answers = false;

auto make_idem_guard() {
  return idem::idempotent<"create_invoice">(bench::create_invoice, {.ttl = 5min});
}

double amount_of(int user_id) { return 0.25 * user_id; }

std::vector<int> ascending(std::size_t count) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

/// The numbers 0 to count - 1 in an order that looks random and is the same in every run and for every guard.
std::vector<int> shuffled(std::size_t count) {
  std::vector<int> order = ascending(count);
  std::mt19937 random(20240229);
  for (std::size_t left = count; left > 1; --left) {  // std::shuffle differs between standard libraries
    std::swap(order[left - 1], order[random() % left]);
  }
  return order;
}

/// What one thread does: calls with the users order[first], order[first + 1], ... (around the end), `calls` of them.
struct Share {
  std::size_t first;
  std::size_t calls;
};

struct Measured {
  std::chrono::steady_clock::time_point begin{};
  std::chrono::steady_clock::time_point end{};
  std::uint64_t runs = 0;
  std::uint64_t wrong = 0;
};

template <class Guard>
Measured visit(Guard& guard, const std::vector<int>& order, Share share) {
  Measured measured;
  const std::uint64_t runs_before = bench::runs;
  std::size_t at = share.first;
  measured.begin = std::chrono::steady_clock::now();
  for (std::size_t call = 0; call < share.calls; ++call) {
    const int user_id = order[at];
    const bench::Invoice invoice = guard(user_id, amount_of(user_id));
    measured.wrong += invoice.id == user_id + 1 && invoice.amount == amount_of(user_id) ? 0U : 1U;
    at = at + 1 == order.size() ? 0 : at + 1;
  }
  measured.end = std::chrono::steady_clock::now();
  measured.runs = bench::runs - runs_before;
  return measured;
}

/// Visits with one thread per share, which start together. The begin and end of the result are the earliest and the
/// latest of all threads.
template <class Guard>
Measured visit_together(Guard& guard, const std::vector<int>& order, const std::vector<Share>& shares) {
  std::vector<Measured> measured(shares.size());
  std::atomic<std::size_t> missing = shares.size();
  const auto work = [&](std::size_t thread) {
    missing.fetch_sub(1);
    while (missing.load() != 0) {
      std::this_thread::yield();
    }
    measured[thread] = visit(guard, order, shares[thread]);
  };
  std::vector<std::thread> threads;
  for (std::size_t thread = 1; thread < shares.size(); ++thread) {
    threads.emplace_back(work, thread);
  }
  work(0);
  for (std::thread& thread : threads) {
    thread.join();
  }
  Measured all = measured.front();
  for (std::size_t thread = 1; thread < measured.size(); ++thread) {
    all.begin = (std::min)(all.begin, measured[thread].begin);
    all.end = (std::max)(all.end, measured[thread].end);
    all.runs += measured[thread].runs;
    all.wrong += measured[thread].wrong;
  }
  return all;
}

/// One repetition: a fresh guard, the calls that duplicates repeat, and then, timed, the work itself.
template <class MakeGuard>
void repetition(benchmark::State& state, MakeGuard make_guard, const std::vector<int>& order, bool duplicates,
                std::size_t rounds, std::size_t thread_count) {
  std::vector<Share> shares;
  for (std::size_t thread = 0; thread < thread_count; ++thread) {
    // First calls divide the keys among the threads. Duplicates give all of them to each, begun at different places.
    const std::size_t first = order.size() * thread / thread_count;
    const std::size_t next = order.size() * (thread + 1) / thread_count;
    shares.push_back(Share{first, duplicates ? order.size() * rounds : next - first});
  }
  std::size_t calls = 0;
  for (const Share& share : shares) {
    calls += share.calls;
  }
  for ([[maybe_unused]] auto _ : state) {
    const auto guard = make_guard();
    bool right = true;
    if (duplicates) {
      // In another order than they are visited in, or the allocator would have laid the results out for the visitor.
      const Measured filled = visit(*guard, ascending(order.size()), Share{0, order.size()});
      right = filled.wrong == 0 && filled.runs == order.size();
    }
    const Measured measured = visit_together(*guard, order, shares);
    right = right && measured.wrong == 0 && measured.runs == (duplicates ? 0 : order.size());
    if (!right) {
      wrong_answers = true;
      state.SkipWithError("wrong invoices, or the function ran too often or too seldom");
      break;
    }
    const std::chrono::duration<double> elapsed = measured.end - measured.begin;
    state.SetIterationTime(elapsed.count());
    state.counters[counter_name] = elapsed.count() * 1e9 / static_cast<double>(calls);
  }
}

std::string case_name(const char* work, std::size_t threads) {
  return std::string(work) + "_" + std::to_string(threads) + "t";
}

std::string benchmark_name(const char* work, std::size_t threads, const char* guard) {
  return case_name(work, threads) + "/" + guard;
}

template <class MakeGuard>
void register_guard(const char* guard, MakeGuard make_guard, const std::vector<int>& cold,
                    const std::vector<int>& hot) {
  struct Work {
    const std::vector<int>* order;
    bool duplicates;
    std::size_t rounds;
  };
  const std::array<Work, work_names.size()> works{Work{&cold, false, 1}, Work{&hot, true, hot_rounds},
                                                  Work{&cold, true, 1}};
  for (std::size_t index = 0; index < works.size(); ++index) {
    const Work work = works[index];
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
      benchmark::RegisterBenchmark(benchmark_name(work_names[index], threads, guard).c_str(),
                                   [=](benchmark::State& state) {
                                     repetition(state, make_guard, *work.order, work.duplicates, work.rounds, threads);
                                   })
          ->Iterations(1)
          ->UseManualTime();
    }
  }
}

/// What building the peers' key costs alone, over the hot keys. It is in every time of theirs.
void text_keys(benchmark::State& state, const std::vector<int>& hot) {
  for ([[maybe_unused]] auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t round = 0; round < hot_rounds; ++round) {
      for (const int user_id : hot) {
        std::string key = bench::text_key(user_id, amount_of(user_id));
        benchmark::DoNotOptimize(key.data());
      }
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(elapsed.count());
    state.counters[counter_name] = elapsed.count() * 1e9 / static_cast<double>(hot_rounds * hot.size());
  }
}

/// Keeps the time of every repetition instead of printing it.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override {
    PrintBasicContext(&GetErrorStream(), context);
    return true;
  }

  void ReportRuns(const std::vector<Run>& reports) override {
    for (const Run& run : reports) {
      const auto time = run.counters.find(counter_name);
      if (run.run_type == Run::RT_Iteration && time != run.counters.end()) {
        times_[run.run_name.function_name].push_back(time->second.value);
      }
    }
  }

  /// All times of a benchmark, sorted; empty when it did not run (--benchmark_filter).
  std::vector<double> sorted_times(const std::string& name) const {
    const auto found = times_.find(name);
    if (found == times_.end()) {
      return {};
    }
    std::vector<double> times = found->second;
    std::sort(times.begin(), times.end());
    return times;
  }

 private:
  std::map<std::string, std::vector<double>> times_;
};

double median(const std::vector<double>& sorted) {
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

std::string cell(const std::vector<double>& sorted) {
  if (sorted.empty()) {
    return "-";
  }
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%.1f (%.1f - %.1f)", median(sorted), sorted[sorted.size() / 4],
                sorted[sorted.size() - 1 - sorted.size() / 4]);
  return text.data();
}

void print_results(const Collector& collector) {
  std::printf("ns per call: median (lower quartile - upper quartile)\n%-18s", "");
  for (const char* const guard : guard_names) {
    std::printf("%26s", guard);
  }
  std::printf("\n");
  std::string ratios;
  for (const char* const work : work_names) {
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
      const std::string name = case_name(work, threads);
      std::printf("%-18s", name.c_str());
      const std::vector<double> ours = collector.sorted_times(benchmark_name(work, threads, guard_names.front()));
      for (std::size_t guard = 0; guard < guard_names.size(); ++guard) {
        const std::vector<double> times = collector.sorted_times(benchmark_name(work, threads, guard_names[guard]));
        std::printf("%26s", cell(times).c_str());
        if (guard != 0 && !times.empty() && !ours.empty()) {
          std::array<char, 96> line{};
          std::snprintf(line.data(), line.size(), "ratio %s_vs_%s %.2f\n", name.c_str(), guard_names[guard],
                        median(times) / median(ours));
          ratios += line.data();
        }
      }
      std::printf("\n");
    }
  }
  std::printf("the peers' key alone: %s\n%s", cell(collector.sorted_times(text_key_name)).c_str(), ratios.c_str());
}

/// Heap allocations per hot duplicate of idem. The keys are visited once as duplicates before counting begins, because
/// what a guard sets up once per thread is no cost of a call.
double allocations_per_hot_duplicate(const std::vector<int>& hot) {
  const auto guard = make_idem_guard();
  visit(guard, hot, Share{0, 2 * hot.size()});
  const std::size_t calls = 100 * hot.size();
  const std::uint64_t before = allocations;
  const Measured measured = visit(guard, hot, Share{0, calls});
  const std::uint64_t counted = allocations - before;
  wrong_answers = wrong_answers || measured.wrong != 0 || measured.runs != 0;
  return static_cast<double>(counted) / static_cast<double>(calls);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<int> cold = shuffled(cold_keys);
  const std::vector<int> hot = shuffled(hot_keys);

  // Ours stand before the user's, which therefore win. The library runs the repetitions of all benchmarks in one
  // shuffled order, so that a machine that slows down or speeds up meets all guards alike.
  std::string repetitions = "--benchmark_repetitions=15";
  std::string interleaving = "--benchmark_enable_random_interleaving=true";
  std::vector<char*> arguments(argv, argv + argc);
  arguments.insert(arguments.begin() + 1, {repetitions.data(), interleaving.data()});
  arguments.push_back(nullptr);
  int count = argc + 2;
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) {
    return EXIT_FAILURE;
  }

  register_guard(
      "idem",
      [] {
        using Guard = decltype(make_idem_guard());
        return std::make_unique<Guard>(make_idem_guard());
      },
      cold, hot);
  register_guard("handwritten", [] { return std::make_unique<bench::HandwrittenGuard>(); }, cold, hot);
  register_guard("tbb", [] { return std::make_unique<bench::TbbGuard>(); }, cold, hot);

  benchmark::RegisterBenchmark(text_key_name, [&hot](benchmark::State& state) { text_keys(state, hot); })
      ->Iterations(1)
      ->UseManualTime();

  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  print_results(collector);
  std::printf("allocations hot_duplicate %g\n", allocations_per_hot_duplicate(hot));
  benchmark::Shutdown();
  if (wrong_answers) {
    std::fprintf(stderr, "A guard returned wrong invoices, or ran the function too often or too seldom.\n");
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
