// What may stand behind the options of `idempotent`: a store, choices of the key, and what to do in special cases.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/event.hpp>
#include <idem/store.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

/// What a failure of the function says about its effect.
enum class Failure : std::uint8_t {
  retryable = 1,  ///< Nothing happened: the key is free again.
  permanent = 2,  ///< It is the outcome: kept and replayed.
  in_doubt = 3,   ///< Nobody knows.
};

/// What an extra is for. A guard takes each at most once, but for observers. An extra of another header names one of
/// these with `using idem_extra = idem::extra::…`, and has what the extra of the same role below has.
namespace extra {
struct store {};
struct key_choice {};
struct object_choice {};
struct comparison {};
struct recovery {};
struct failure_choice {};
struct result_choice {};
struct result_keeping {};
struct duplicate_value {};
struct exception_list {};
struct secret {};
struct seal {};
struct observer {};
struct rerun_consent {};
struct forwarding {};
}  // namespace extra

namespace detail {

template <class T>
struct is_shared_store : std::false_type {};
template <class S>
struct is_shared_store<std::shared_ptr<S>> : std::bool_constant<StoreLike<S>> {};

template <class T>
concept StoreExtra = StoreLike<std::remove_cvref_t<T>> || is_shared_store<std::remove_cvref_t<T>>::value;

template <class T>
concept TaggedExtra = requires {
  typename std::remove_cvref_t<T>::idem_extra;
};

}  // namespace detail

/// A store (an lvalue is borrowed, an rvalue owned, a std::shared_ptr shared), or a type that names its role as
/// `idem_extra`.
template <class T>
concept Extra = detail::StoreExtra<T> || detail::TaggedExtra<T>;

namespace detail {

template <class F>
struct KeyBy {
  using idem_extra = extra::key_choice;
  F function;
};
template <std::size_t... I>
struct KeyFrom {
  using idem_extra = extra::key_choice;
  constexpr KeyFrom operator()() const noexcept { return {}; }  // so that it may be written as a call, too
};
struct AnyObject {
  using idem_extra = extra::object_choice;
  constexpr AnyObject operator()() const noexcept { return {}; }  // so that it may be written as a call, too
};
template <class F>
struct CompareBy {
  using idem_extra = extra::comparison;
  F function;
};
template <class F>
struct RecoverWith {
  using idem_extra = extra::recovery;
  F function;
};
template <class F>
struct ClassifyFailure {
  using idem_extra = extra::failure_choice;
  F function;
};
template <class F>
struct ClassifyResult {
  using idem_extra = extra::result_choice;
  F function;
};
struct WithoutResult {
  using idem_extra = extra::result_keeping;
  constexpr WithoutResult operator()() const noexcept { return {}; }  // so that it may be written as a call, too
};
template <class F>
struct OnDuplicateReturn {
  using idem_extra = extra::duplicate_value;
  F value;
};
template <class... E>
struct ReplayExceptions {
  using idem_extra = extra::exception_list;
  constexpr ReplayExceptions operator()() const noexcept { return {}; }  // so that it may be written as a call, too
};
struct KeyedWith {
  using idem_extra = extra::secret;
  std::string secret;
  std::string previous;
};
template <class Encrypt, class Decrypt>
struct SealWith {
  using idem_extra = extra::seal;
  Encrypt encrypt;
  Decrypt decrypt;
};
struct Observe {
  using idem_extra = extra::observer;
  EventHandler handler;
};

}  // namespace detail

/// `f(args…)`, called with const lvalues, gives what enters the key instead of the arguments. A member function's
/// object is argument 0. An empty string, an absent value and an empty container are refused as keys.
template <class F>
detail::KeyBy<std::decay_t<F>> key_by(F&& f) {
  return {std::forward<F>(f)};
}

/// The arguments at these positions, counted from 0, enter the key; a member function's object is argument 0.
template <std::size_t... I>
inline constexpr detail::KeyFrom<I...> key_from{};

/// What OnConflict::raise compares, instead of the arguments that aren't in the key.
template <class F>
detail::CompareBy<std::decay_t<F>> compare_by(F&& f) {
  return {std::forward<F>(f)};
}

/// For a member function: the object it's called on plays no part in the key.
inline constexpr detail::AnyObject any_object{};

/// `f(args…) -> std::optional<R>` (`-> bool` where the result is void), with `Context&` as its last parameter if it
/// wants: asked when an earlier run is in doubt. A value is recorded and replayed, `nullopt` (false) says that the
/// effect did not happen, and the function runs. If it throws, the key stays in doubt.
template <class F>
detail::RecoverWith<std::decay_t<F>> recover_with(F&& f) {
  return {std::forward<F>(f)};
}

/// `f(std::exception_ptr) -> Failure`: what the function's exception says about its effect; goes before
/// Options::on_failure. If it throws, the key is in doubt.
template <class F>
detail::ClassifyFailure<std::decay_t<F>> classify_failure(F&& f) {
  return {std::forward<F>(f)};
}

/// `f(const R&) -> std::optional<Failure>`, for functions that fail by value: `nullopt` is success, retryable frees the
/// key, permanent stores and replays the value. If it throws, the key is in doubt.
template <class F>
detail::ClassifyResult<std::decay_t<F>> classify_result(F&& f) {
  return {std::forward<F>(f)};
}

/// Only that it completed is kept: any result type, duplicates get DuplicateExecutionError.
inline constexpr detail::WithoutResult without_result{};

/// What duplicates of a completed call get instead of the stored result: a value, `f()` or `f(args…)`.
template <class F>
detail::OnDuplicateReturn<std::decay_t<F>> on_duplicate_return(F&& value) {
  return {std::forward<F>(value)};
}

/// Exception types that stores of bytes replay as themselves, by exact type: each has a codec, or a constructor from
/// its message.
template <class... E>
inline constexpr detail::ReplayExceptions<E...> replay_exceptions{};

struct KeyedWithOptions {
  /// An earlier secret whose records are still found. Before a new secret is used, every process must know both: first
  /// deploy {old, previous = new}, then {new, previous = old}.
  std::string_view previous = {};
};

/// HMAC-SHA-256 (RFC 2104) with `secret` instead of SHA-256, for key, fingerprint and derived keys: for arguments with
/// so few possible values that a plain digest could be found by trying them all. At least 16 random bytes.
inline detail::KeyedWith keyed_with(std::string_view secret, const KeyedWithOptions& options = {}) {
  return {std::string(secret), std::string(options.previous)};
}

/// Results and messages pass through the user's authenticated encryption before a store of bytes keeps them:
/// `encrypt(plain, associated)` and `decrypt(sealed, associated)` take two std::span<const std::byte> (or two
/// std::string_view) and give a container of bytes; `decrypt` gives an optional one, or throws, for bytes that aren't
/// genuine. The associated data is the key's digest. Stores that keep objects keep them as they are.
template <class Encrypt, class Decrypt>
detail::SealWith<std::decay_t<Encrypt>, std::decay_t<Decrypt>> seal_with(Encrypt&& encrypt, Decrypt&& decrypt) {
  return {std::forward<Encrypt>(encrypt), std::forward<Decrypt>(decrypt)};
}

/// `f(const Event&)` on every transition, called without locks; must not throw. As often as wanted.
template <class F>
detail::Observe observe(F&& f) {
  return {EventHandler(std::forward<F>(f))};
}

namespace detail {

template <class T>
struct role_of {
  using type = void;
};
template <TaggedExtra T>
struct role_of<T> {
  using type = typename T::idem_extra;
};
template <class T>
requires(!TaggedExtra<T> && StoreExtra<T>) struct role_of<T> {
  using type = extra::store;
};

template <class Role, class... Extras>
inline constexpr std::size_t count_of = (std::size_t{0} + ... +
                                         (std::same_as<typename role_of<Extras>::type, Role> ? 1u : 0u));

/// Checks a list of extras, each sentence once.
template <class... Extras>
constexpr bool check_extras() {
  static_assert(
      (Extra<Extras> && ...),
      "idem: behind the options may stand: a store, key_by, key_from, compare_by, any_object, recover_with, "
      "classify_failure, classify_result, without_result, on_duplicate_return, replay_exceptions, keyed_with, "
      "seal_with, observe, or a type that satisfies idem::Extra");
  static_assert(count_of<extra::store, std::remove_cvref_t<Extras>...> <= 1,
                "idem: a guard has one store; use AnyStore or a store of your own for more");
  static_assert(count_of<extra::key_choice, std::remove_cvref_t<Extras>...> <= 1,
                "idem: use key_by or key_from once, not both");
  static_assert(count_of<extra::object_choice, std::remove_cvref_t<Extras>...> <= 1, "idem: any_object stands twice");
  static_assert(count_of<extra::comparison, std::remove_cvref_t<Extras>...> <= 1, "idem: compare_by stands twice");
  static_assert(count_of<extra::recovery, std::remove_cvref_t<Extras>...> <= 1, "idem: recover_with stands twice");
  static_assert(count_of<extra::failure_choice, std::remove_cvref_t<Extras>...> <= 1,
                "idem: classify_failure stands twice");
  static_assert(count_of<extra::result_choice, std::remove_cvref_t<Extras>...> <= 1,
                "idem: classify_result stands twice");
  static_assert(count_of<extra::result_keeping, std::remove_cvref_t<Extras>...> <= 1,
                "idem: without_result stands twice");
  static_assert(count_of<extra::duplicate_value, std::remove_cvref_t<Extras>...> <= 1,
                "idem: on_duplicate_return stands twice");
  static_assert(count_of<extra::exception_list, std::remove_cvref_t<Extras>...> <= 1,
                "idem: name all exception types in one replay_exceptions");
  static_assert(count_of<extra::secret, std::remove_cvref_t<Extras>...> <= 1, "idem: keyed_with stands twice");
  static_assert(count_of<extra::seal, std::remove_cvref_t<Extras>...> <= 1, "idem: seal_with stands twice");
  static_assert(count_of<extra::rerun_consent, std::remove_cvref_t<Extras>...> <= 1,
                "idem: allow_undetected_reruns stands twice");
  static_assert(count_of<extra::forwarding, std::remove_cvref_t<Extras>...> <= 1, "idem: forward_to stands twice");
  return (Extra<Extras> && ...);
}

}  // namespace detail

IDEM_END_NAMESPACE
