// idem::idempotent: wraps a function so that a retry, a race or a replayed event doesn't run it twice.
//
// What it doesn't promise: if a process dies between the start of the function and the record of its outcome, the
// effect happened zero or one times, and only the outside world knows. The next caller is told so; see
// Options::on_in_doubt, recover_with and Context::derived_key. By default an exception says "nothing happened" and
// frees the key.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/function_name.hpp>
#include <idem/extras.hpp>
#include <idem/guard.hpp>
#include <idem/memory_store.hpp>
#include <idem/options.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

/// A name as a template argument: `idempotent<"billing.charge">`.
template <std::size_t N>
struct FixedName {
  char text[N] = {};

  consteval FixedName(const char (&name)[N]) {  // NOLINT: conversion is the point
    for (std::size_t i = 0; i < N; ++i) text[i] = name[i];
  }
  constexpr std::string_view view() const noexcept { return {text, N - 1}; }
};

namespace detail {

/// How the store among the extras is held; a MemoryStore of the guard's own where there is none.
template <class... Extras>
struct holder_of {
  using type = OwnedStore<MemoryStore>;
  static type make() { return {MemoryStore()}; }
};
template <class First, class... Rest>
struct holder_of<First, Rest...> {
  using type = typename holder_of<Rest...>::type;
  static type make(First&&, Rest&&... rest) { return holder_of<Rest...>::make(static_cast<Rest&&>(rest)...); }
};
template <StoreExtra First, class... Rest>
struct holder_of<First, Rest...> {
  using Plain = std::remove_cvref_t<First>;

  static constexpr auto describe() {
    if constexpr (is_shared_store<Plain>::value) {
      return std::type_identity<SharedStore<typename Plain::element_type>>{};
    } else if constexpr (std::is_lvalue_reference_v<First>) {
      static_assert(!std::is_const_v<std::remove_reference_t<First>>, "idem: a store that is used can't be const");
      return std::type_identity<BorrowedStore<Plain>>{};
    } else {
      return std::type_identity<OwnedStore<Plain>>{};
    }
  }
  template <class T>
  struct strip {
    using type = T;
  };
  template <class T>
  struct strip<std::type_identity<T>> {
    using type = T;
  };
  using type = typename strip<decltype(describe())>::type;
  static_assert(check_store<typename type::Store>());

  static type make(First&& store, Rest&&...) {
    if constexpr (is_shared_store<Plain>::value) {
      return {std::forward<First>(store)};
    } else if constexpr (std::is_lvalue_reference_v<First>) {
      return {std::addressof(store)};
    } else {
      return {std::move(store)};
    }
  }
};

/// Hands on the extras that aren't stores.
template <class E>
auto kept_extra(E&& extra) {
  if constexpr (StoreExtra<E>) {
    return std::tuple<>();
  } else {
    return std::tuple<std::remove_cvref_t<E>>(std::forward<E>(extra));
  }
}

template <class Callable>
struct guard_arguments {
  using Known = Signature<Callable>;
  using type = std::conditional_t<Known::known, typename Known::Arguments, void>;
};

template <class F, class... E>
auto make_guard(std::string_view name, std::string_view parameters, F&& function, Options options, E&&... extras) {
  if constexpr (check_extras<E...>()) {
    using Callable = std::decay_t<F>;
    using Arguments = typename guard_arguments<Callable>::type;
    using Holding = holder_of<E...>;
    if constexpr (std::is_member_pointer_v<Callable>) {
      static_assert(
          count_of<extra::key_choice, std::remove_cvref_t<E>...> +
                  count_of<extra::object_choice, std::remove_cvref_t<E>...> >=
              1,
          "idem: for a member function say what of its object enters the key: idem::key_by, idem::key_from (the "
          "object is argument 0), or idem::any_object where it plays no part");
    } else {
      static_assert(count_of<extra::object_choice, std::remove_cvref_t<E>...> == 0,
                    "idem: any_object is for member functions; this callable has no object");
    }
    static_assert(
        detects_doubt<typename Holding::type::Store>() ||
            count_of<extra::rerun_consent, std::remove_cvref_t<E>...> == 1,
        "idem: this store can't always tell a call that was left in doubt from one that wasn't made, so that it may "
        "run again and on_in_doubt = report doesn't hold; "
        "say that this is meant with idem::onceonly::allow_undetected_reruns");
    auto holder = Holding::make(static_cast<E&&>(extras)...);
    return std::apply(
        [&]<class... Kept>(Kept&&... kept) {
          using State = GuardState<Callable, typename Holding::type, std::remove_cvref_t<Kept>...>;
          return Guard<State, Arguments>(std::make_shared<const State>(name, parameters, std::move(options),
                                                                       Callable(static_cast<F&&>(function)),
                                                                       std::move(holder), std::move(kept)...));
        },
        std::tuple_cat(kept_extra(static_cast<E&&>(extras))...));
  }
}

template <class T>
inline constexpr bool is_options = std::same_as<std::remove_cvref_t<T>, Options>;

template <class... E>
inline constexpr bool starts_with_options = false;
template <class First, class... Rest>
inline constexpr bool starts_with_options<First, Rest...> = is_options<First>;

template <FixedName Name>
constexpr std::string_view given_name() noexcept {
  static_assert(!Name.view().empty(), "idem: a guard's name can't be empty");
  return Name.view();
}

}  // namespace detail

/// Guards anything callable under a name that outlives refactoring. Extras come in any order: see extras.hpp.
/// Throws std::invalid_argument where an option makes no sense.
template <FixedName Name, class F, class... E>
auto idempotent(F&& function, Options options, E&&... extras) {
  return detail::make_guard(detail::given_name<Name>(), {}, std::forward<F>(function), std::move(options),
                            std::forward<E>(extras)...);
}
template <FixedName Name, class F, class... E>
requires(!detail::starts_with_options<E...>) auto idempotent(F&& function, E&&... extras) {
  return detail::make_guard(detail::given_name<Name>(), {}, std::forward<F>(function), Options{},
                            std::forward<E>(extras)...);
}

/// Guards a function, or a member function, named by itself: its qualified name and the shapes of its parameters enter
/// the key. Renaming it, or moving it to another namespace, makes new keys. What no compiler shows has to be known: g++
/// and clang name functions in inline namespaces differently, file-static functions of one name share their keys, and
/// programs that share a store have to be built alike. Such functions are given a name:
/// idempotent<"billing.charge">(charge, …).
template <auto Function, class... E>
auto idempotent(Options options, E&&... extras) {
  return detail::make_guard(detail::derived_name<Function>(), detail::parameter_shapes<Function>(), Function,
                            std::move(options), std::forward<E>(extras)...);
}
template <auto Function, class... E>
requires(!detail::starts_with_options<E...>) auto idempotent(E&&... extras) {
  return detail::make_guard(detail::derived_name<Function>(), detail::parameter_shapes<Function>(), Function, Options{},
                            std::forward<E>(extras)...);
}

IDEM_END_NAMESPACE
