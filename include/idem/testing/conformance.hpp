// The conformance suite: what every store has to do, as cases for any test framework.
//
//     struct Report {
//       void operator()(const idem::testing::ConformanceResult& result) const {
//         CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
//       }
//     };
//     idem::testing::check_conformance(
//         [](const idem::Clock& clock) { return MyStore({.clock = clock}); }, Report{});
//
// It tries a store by itself: what a guard makes of it isn't part of this, nor is what survives a crash.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/store.hpp>
#include <idem/testing/conformance/ownership.hpp>
#include <idem/testing/conformance/records.hpp>
#include <idem/testing/conformance/threads.hpp>
#include <idem/testing/conformance/time.hpp>
#include <idem/testing/conformance/trial.hpp>
#include <idem/testing/manual_clock.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace testing {

/// What became of one case.
struct ConformanceResult {
  std::string_view id = {};
  std::string_view promise = {};
  bool passed = false;
  bool skipped = false;     ///< Then it also counts as passed; `detail` says what the store lacks.
  std::string detail = {};  ///< The first thing that wasn't as promised.
};

namespace conformance_impl {

template <class Made>
decltype(auto) store_in(Made& made) {
  if constexpr (Store<Made>) {
    return (made);
  } else {
    return *made;
  }
}

template <class Make>
using StoreOf = std::remove_cvref_t<decltype(store_in(
    std::declval<std::add_lvalue_reference_t<std::invoke_result_t<Make&, const Clock&>>>()))>;

struct NoAttach {};

template <class S>
const char* lacks(unsigned needs, S& store, bool has_other) {
  const StoreTraits traits = store.traits();
  if ((needs & needs_clock) != 0 && traits.clock != ClockOwner::process) return "a clock of its own";
  if ((needs & needs_leases) != 0 && traits.liveness != Liveness::lease) return "leases";
  if ((needs & needs_objects) != 0 && traits.keeps != Keeps::objects) return "objects";
  if ((needs & needs_other) != 0 && !has_other) return "a second object onto the same records";
  return nullptr;
}

}  // namespace conformance_impl

/// All cases, for running them one by one.
template <class S>
ConformanceCases<S> conformance_cases() {
  static_assert(idem::detail::check_store<S>());
  ConformanceCases<S> cases;
  add_ownership_cases(cases);
  add_record_cases(cases);
  add_time_cases(cases);
  add_thread_cases(cases);
  return cases;
}

/// Tries one case on a store of its own. `make` gives a fresh, empty store, by value or by a pointer, that judges time
/// by the clock it is handed, or by its own where that one is empty; `attach`, which may be left out, makes a second
/// object onto a store's records.
template <class S, class Make, class Attach = conformance_impl::NoAttach>
ConformanceResult try_case(const ConformanceCase<S>& tried, Make& make, Attach attach = {},
                           const ConformanceOptions& options = {}) {
  ConformanceResult result;
  result.id = tried.id;
  result.promise = tried.promise;
  const ManualClock clock;
  auto made = make((tried.needs & own_clock) != 0 ? Clock() : Clock(clock));
  S& store = conformance_impl::store_in(made);
  constexpr bool attaches = !std::is_same_v<Attach, conformance_impl::NoAttach>;
  if (const char* lacking = conformance_impl::lacks(tried.needs, store, attaches); lacking != nullptr) {
    result.passed = true;
    result.skipped = true;
    result.detail = std::string("the store lacks ") + lacking;
    return result;
  }
  const auto run = [&](S* other) {
    Trial<S> trial(store, other, clock, options);
    tried.run(trial);
    result.detail = trial.detail();
  };
  IDEM_TRY {
    if constexpr (attaches) {
      auto second = attach(store);
      run(&conformance_impl::store_in(second));
    } else {
      run(nullptr);
    }
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL { result.detail = "an operation threw"; }
  result.passed = result.detail.empty();
  return result;
}

/// Tries all cases, each on a store of its own; `report` is called with the result of each.
template <class Make, class Report, class Attach = conformance_impl::NoAttach>
void check_conformance(Make make, Report report, Attach attach = {}, const ConformanceOptions& options = {}) {
  using S = conformance_impl::StoreOf<Make>;
  for (const ConformanceCase<S>& tried : conformance_cases<S>()) report(try_case(tried, make, attach, options));
}

}  // namespace testing
IDEM_END_NAMESPACE
