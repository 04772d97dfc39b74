// What all copies of a guard share: callable, options, store, extras; and how a call's key is made of its arguments.
#pragma once

#include <idem/detail/acquisition.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/results.hpp>
#include <idem/detail/signature.hpp>
#include <idem/extras.hpp>
#include <idem/key.hpp>
#include <idem/options.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Three ways to have a store.
template <class S>
struct BorrowedStore {
  using Store = S;
  S* store;
  S& get() const noexcept { return *store; }
};
template <class S>
struct OwnedStore {
  using Store = S;
  mutable S store;
  S& get() const noexcept { return store; }
};
template <class S>
struct SharedStore {
  using Store = S;
  std::shared_ptr<S> store;
  S& get() const noexcept { return *store; }
};

struct None {};

/// The type of the extra with this role among `Extras`, or None.
template <class Role, class... Extras>
struct extra_of {
  using type = None;
};
template <class Role, class First, class... Rest>
struct extra_of<Role, First, Rest...> {
  using type = std::conditional_t<std::is_same_v<typename role_of<First>::type, Role>, First,
                                  typename extra_of<Role, Rest...>::type>;
};

template <class T>
struct key_positions {
  static constexpr bool chosen = false;
};
template <std::size_t... I>
struct key_positions<KeyFrom<I...>> {
  static constexpr bool chosen = true;
  static constexpr bool contains(std::size_t index) noexcept { return ((I == index) || ...); }
  static constexpr std::size_t largest() noexcept {
    std::size_t found = 0;
    ((found = I > found ? I : found), ...);
    return found;
  }
};
template <class T>
struct exception_types {
  using type = ExceptionList<>;
};
template <class... E>
struct exception_types<ReplayExceptions<E...>> {
  using type = ExceptionList<E...>;
};

template <class F, class Holder, class... Extras>
class GuardState {
 public:
  using Callable = F;
  using Store = typename Holder::Store;
  template <class Role>
  using ExtraOf = typename extra_of<Role, Extras...>::type;
  template <class Role>
  static constexpr bool has = !std::is_same_v<ExtraOf<Role>, None>;

  using Seal = std::conditional_t<has<extra::seal>, ExtraOf<extra::seal>, NoSeal>;
  using Exceptions = typename exception_types<ExtraOf<extra::exception_list>>::type;
  using KeyChoice = ExtraOf<extra::key_choice>;
  static constexpr bool keeps_result = !has<extra::result_keeping>;
  static constexpr bool member_function = std::is_member_pointer_v<F>;

  template <class R>
  using Keeping = ResultKeeping<R, Store, keeps_result, Seal, Exceptions>;

  template <class... G>
  GuardState(std::string_view name, std::string_view parameters, Options options, F callable, Holder holder,
             G&&... extras)
      : options_(std::move(options)),
        function_(std::move(callable)),
        store_(std::move(holder)),
        extras_(std::forward<G>(extras)...) {
    check_options(options_);
    std::string_view secret;
    if constexpr (has<extra::secret>) {
      const auto& keyed = get<extra::secret>();
      secret = keyed.secret;
      if (secret.empty()) raise(std::invalid_argument("idem: keyed_with needs a secret; at least 16 random bytes"));
      if (keyed.previous == keyed.secret) {
        raise(std::invalid_argument("idem: keyed_with's previous secret is the same as the present one"));
      }
      if (!keyed.previous.empty()) {
        previous_ = DomainRef::adopt(new KeyDomain(options_.scope, name, options_.version, parameters, keyed.previous));
      }
    }
    domain_ = DomainRef::adopt(new KeyDomain(options_.scope, name, options_.version, parameters, secret));
    collect_observers(std::index_sequence_for<Extras...>{});
  }

  const Options& options() const noexcept { return options_; }
  Store& store() const noexcept { return store_.get(); }
  F& function() const noexcept { return function_; }
  const Observers& observers() const noexcept { return observers_; }
  const DomainRef& domain() const noexcept { return domain_; }
  /// Of the previous secret; empty where there is none.
  const DomainRef& previous() const noexcept { return previous_; }

  /// REQUIRES: has<Role>.
  template <class Role>
  const ExtraOf<Role>& get() const noexcept {
    return std::get<ExtraOf<Role>>(extras_);
  }
  const Seal& seal() const noexcept {
    if constexpr (has<extra::seal>) {
      return get<extra::seal>();
    } else {
      static constexpr NoSeal none{};
      return none;
    }
  }

  /// Makes the key of a call. `A` are the parameter types, which say what may enter it. nullptr, or why there is no
  /// key. Inlined by hand: where the compiler decides otherwise a duplicate takes an eighth longer.
  template <class... A>
  IDEM_ALWAYS_INLINE const char* make_key(Key& key, DomainRef domain,
                                          const std::remove_reference_t<A>&... arguments) const {
    KeyBuilder builder(key, std::move(domain));
    if constexpr (std::is_same_v<KeyChoice, None>) {
      add_parts<A...>(builder, std::index_sequence_for<A...>{}, arguments...);
    } else if constexpr (key_positions<KeyChoice>::chosen) {
      static_assert(sizeof...(A) > key_positions<KeyChoice>::largest(),
                    "idem: key_from names a position that this function doesn't have; positions count from 0");
      add_parts<A...>(builder, std::index_sequence_for<A...>{}, arguments...);
    } else {
      static_assert(
          std::is_invocable_v<decltype(get<extra::key_choice>().function) const&, const std::remove_reference_t<A>&...>,
          "idem: the function of key_by is called with all arguments, as const lvalues");
      const auto& chosen = get<extra::key_choice>().function(arguments...);
      require_key_part<std::remove_cvref_t<decltype(chosen)>>();
      if (!says_something(chosen)) builder.refuse("key_by gave an empty key");
      builder.part(chosen);
    }
    if constexpr (Store::keeps != Keeps::objects) KeyBuilder::digest(key);
    return builder.error();
  }

  /// The fingerprint of what OnConflict::raise compares. False where there is nothing to compare.
  template <class... A>
  bool make_fingerprint(Digest& fingerprint, const Key& key, const char*& error,
                        const std::remove_reference_t<A>&... arguments) const {
    if (options_.on_conflict != OnConflict::raise) return false;
    if constexpr (!has<extra::comparison> && !any_compared<A...>(std::index_sequence_for<A...>{})) {
      return false;  // The key holds all.
    } else {
      Bytes bytes;
      Writer writer(bytes, Form::key);
      if constexpr (has<extra::comparison>) {
        const auto& compared = get<extra::comparison>().function(arguments...);
        require_key_part<std::remove_cvref_t<decltype(compared)>>();
        write_part(writer, compared);
      } else {
        add_others<A...>(writer, std::index_sequence_for<A...>{}, arguments...);
      }
      error = writer.error();
      fingerprint = labelled_digest(KeyBuilder::domain(key), "idem fingerprint 1", bytes.data(), bytes.size());
      return true;
    }
  }

 private:
  template <std::size_t... I>
  void collect_observers(std::index_sequence<I...>) {
    [[maybe_unused]] const auto collect = [&](const auto& extra) {
      using E = std::remove_cvref_t<decltype(extra)>;
      if constexpr (std::is_same_v<typename role_of<E>::type, extra::observer>) observers_.add(extra.handler);
    };
    (collect(std::get<I>(extras_)), ...);
  }

  static constexpr bool in_key(std::size_t index) noexcept {
    if constexpr (key_positions<KeyChoice>::chosen) {
      return key_positions<KeyChoice>::contains(index);
    } else {
      return !(has<extra::object_choice> && index == 0);
    }
  }

  template <class... A, std::size_t... I>
  void add_parts(KeyBuilder& builder, std::index_sequence<I...>, const std::remove_reference_t<A>&... arguments) const {
    (add_part<A, I>(builder, arguments), ...);
  }
  template <class A, std::size_t I>
  void add_part(KeyBuilder& builder, const std::remove_reference_t<A>& argument) const {
    if constexpr (in_key(I)) {
      // Of a callable with many signatures the parameters are unknown: there A says only how the caller holds the
      // argument, and any variable of theirs may be handed over.
      static_assert(
          !Signature<F>::known || !std::is_lvalue_reference_v<A> || std::is_const_v<std::remove_reference_t<A>>,
          "idem: a mutable reference can't enter the key, since the function may change what it refers to; "
          "choose what enters it with idem::key_by or idem::key_from");
      require_key_part<std::remove_cvref_t<A>>();
      builder.part(argument);
    }
  }
  template <class... A, std::size_t... I>
  void add_others(Writer& writer, std::index_sequence<I...>, const std::remove_reference_t<A>&... arguments) const {
    (add_other<A, I>(writer, arguments), ...);
  }
  template <class A, std::size_t I>
  void add_other(Writer& writer, const std::remove_reference_t<A>& argument) const {
    if constexpr (is_compared<A, I>) write_part(writer, argument);
  }

  // With key_by nobody knows what of an argument is in the key, so that all of it is compared. What a mutable reference
  // refers to is often a place for an answer, which says nothing about the call.
  static constexpr bool by_function = !std::is_same_v<KeyChoice, None> && !key_positions<KeyChoice>::chosen;
  template <class A>
  static constexpr bool is_place =
      Signature<F>::known&& std::is_lvalue_reference_v<A> && !std::is_const_v<std::remove_reference_t<A>>;
  template <class A, std::size_t I>
  static constexpr bool is_compared = (by_function || !in_key(I)) && !(member_function && I == 0) &&
                                      !is_place<A> && KeyPart<std::remove_cvref_t<A>>;
  template <class... A, std::size_t... I>
  static constexpr bool any_compared(std::index_sequence<I...>) noexcept {
    return (is_compared<A, I> || ...);
  }

  Options options_;
  mutable F function_;
  Holder store_;
  std::tuple<Extras...> extras_;
  Observers observers_{count_of<extra::observer, Extras...>};
  DomainRef domain_ = {};
  DomainRef previous_ = {};
};

}  // namespace detail
IDEM_END_NAMESPACE
