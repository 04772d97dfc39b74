// The clock that a store reads, replaceable for tests.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/duration.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

/// A handle to a source of time, made from any copyable object with `now()` or a call operator that gives a TimePoint
/// (idem::testing::ManualClock, or a lambda). Empty by default, which stands for the store's own clock.
/// Thread safety: a plain value; the object's `now` is called from many threads at once and must not throw.
class Clock {
 public:
  Clock() noexcept = default;

  template <class Source>
  requires(!std::same_as<std::remove_cvref_t<Source>, Clock> &&
           (
               requires(const std::remove_cvref_t<Source>& source) {
                 { source.now() } -> std::convertible_to<TimePoint>;
               } ||
               requires(const std::remove_cvref_t<Source>& source) {
                 { source() } -> std::convertible_to<TimePoint>;
               })) Clock(Source&& source)  // NOLINT: conversion is the point
      : source_(detail::SharedObject::make<std::remove_cvref_t<Source>>(std::forward<Source>(source))),
        read_([](const void* object) noexcept -> TimePoint {
          const auto& held = *static_cast<const std::remove_cvref_t<Source>*>(object);
          if constexpr (requires { held.now(); }) {
            return held.now();
          } else {
            return held();
          }
        }) {}

  explicit operator bool() const noexcept { return source_.get() != nullptr; }
  /// REQUIRES: not empty.
  TimePoint now() const noexcept { return read_(source_.get()); }

 private:
  detail::SharedObject source_;
  TimePoint (*read_)(const void*) noexcept = nullptr;
};

IDEM_END_NAMESPACE
