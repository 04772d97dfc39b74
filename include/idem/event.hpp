// What a guard or a store tells its observers.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/key.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

/// Zero is reserved; numbers are pinned, new ones are added at the end.
enum class EventKind : std::uint8_t {
  claimed = 1,           ///< The key is the caller's; the function is about to run.
  taken_over = 2,        ///< The same, of a key that was in doubt.
  completed = 3,         ///< The outcome is recorded.
  failed = 4,            ///< The failure is recorded and will be replayed.
  released = 5,          ///< The key is free again: the function didn't run, or its failure said that nothing happened.
  abandoned = 6,         ///< The key is in doubt.
  recovered = 7,         ///< recover_with told the outcome of an earlier run.
  replayed = 8,          ///< A duplicate got the stored result.
  failure_replayed = 9,  ///< A duplicate got the stored failure.
  duplicate = 10,        ///< A duplicate was told that the call has been made.
  waiting = 11,          ///< A duplicate waits for a running call.
  in_progress = 12,      ///< A duplicate gave up waiting, or didn't wait.
  in_doubt = 13,         ///< A caller was told that an earlier run is in doubt.
  conflict = 14,         ///< The key was used with other arguments.
  reentrant = 15,        ///< The call stands further up the caller's own stack.
  invalid_key = 16,      ///< The arguments have no key.
  unavailable = 17,      ///< The store didn't answer; the function wasn't run.
  unguarded = 18,        ///< The store didn't answer; the function was run all the same, as asked for.
  unrecorded = 19,       ///< The function ran, but its outcome isn't recorded, or only without its result.
  stale = 20,            ///< The function ran, but another owner had taken over meanwhile.
  corrupt = 21,          ///< The record can't be read.
  lease_lost = 22,       ///< The lease of a running call was lost.
  resolved = 23,         ///< Somebody resolved a doubt by hand; the message is their note.
  forgotten = 24,        ///< A record was removed by hand.
  store_warning = 25,    ///< The store isn't set up as it should be; the message says what to do.
};

/// The name of an event as metrics show it: the enumerator's.
constexpr std::string_view name_of(EventKind kind) noexcept {
  constexpr std::string_view names[] = {
      "none",      "claimed",    "taken_over",       "completed",   "failed",       "released",    "abandoned",
      "recovered", "replayed",   "failure_replayed", "duplicate",   "waiting",      "in_progress", "in_doubt",
      "conflict",  "reentrant",  "invalid_key",      "unavailable", "unguarded",    "unrecorded",  "stale",
      "corrupt",   "lease_lost", "resolved",         "forgotten",   "store_warning"};
  const auto index = static_cast<std::size_t>(kind);
  return index < sizeof names / sizeof names[0] ? names[index] : names[0];
}
inline constexpr std::size_t event_kinds = 26;

/// One transition, or one answer given to a caller. Holds no argument; `message` may hold the text of an exception.
struct Event {
  EventKind kind;
  const Key& key;             ///< An empty one where the event isn't about a key.
  std::uint64_t epoch = 0;    ///< Fencing token of the run, where there is one.
  std::uint32_t attempt = 0;  ///< As in Context::attempt, where known.
  std::string_view message = {};
};

/// A handle to something that is called with each event: made from any callable of `const Event&`, copied by sharing.
/// The callable is called without any lock of idem's held, from many threads at once. It must not throw; what it throws
/// all the same is dropped.
class EventHandler {
 public:
  EventHandler() noexcept = default;

  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, EventHandler> && std::invocable<std::remove_cvref_t<F>&, const Event&>)
      EventHandler(F&& handler)  // NOLINT: conversion is the point
      : handler_(detail::SharedObject::make<std::remove_cvref_t<F>>(std::forward<F>(handler))),
        call_([](void* object, const Event& event) { (*static_cast<std::remove_cvref_t<F>*>(object))(event); }) {}

  explicit operator bool() const noexcept { return handler_.get() != nullptr; }

  void operator()(const Event& event) const {
    if (handler_.get() == nullptr) return;
    IDEM_TRY {
      call_(handler_.get(), event);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

 private:
  detail::SharedObject handler_;
  void (*call_)(void*, const Event&) = nullptr;
};

IDEM_END_NAMESPACE
