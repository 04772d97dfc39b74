// Counters: an observer that counts events, with a text dump for Prometheus.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/event.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE

/// Counts events by kind: `observe(counters)`. A handle: copies count together, so that one serves many guards.
/// Thread safety: all members may be called from any thread.
class Counters {
 public:
  Counters() : counts_(detail::SharedObject::make<Counts>()) {}

  void operator()(const Event& event) const noexcept {
    const auto kind = static_cast<std::size_t>(event.kind);
    if (kind < event_kinds) counts_.as<Counts>().of[kind].fetch_add(1, std::memory_order_relaxed);
  }

  std::uint64_t count(EventKind kind) const noexcept {
    const auto index = static_cast<std::size_t>(kind);
    return index < event_kinds ? counts_.as<Counts>().of[index].load(std::memory_order_relaxed) : 0;
  }

  /// All counts in the text format of Prometheus (version 0.0.4), as `PREFIX_events_total{event="…"}`.
  std::string prometheus(std::string_view prefix = "idem") const {
    std::string name(prefix);
    name += "_events_total";
    std::string text = "# HELP " + name + " Transitions of idempotent calls and answers to their callers.\n# TYPE " +
                       name + " counter\n";
    for (std::size_t kind = 1; kind < event_kinds; ++kind) {
      text += name;
      text += "{event=\"";
      text += name_of(static_cast<EventKind>(kind));
      text += "\"} ";
      text += std::to_string(counts_.as<Counts>().of[kind].load(std::memory_order_relaxed));
      text += '\n';
    }
    return text;
  }

 private:
  struct Counts {
    std::atomic<std::uint64_t> of[event_kinds] = {};
  };
  detail::SharedObject counts_;
};

IDEM_END_NAMESPACE
