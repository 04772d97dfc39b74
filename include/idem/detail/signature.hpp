// What a callable takes and gives, and how it's called with a Context in the right place.
#pragma once

#include <idem/context.hpp>
#include <idem/detail/config.hpp>

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

template <class... T>
struct TypeList {
  static constexpr std::size_t size = sizeof...(T);
};

template <class T>
inline constexpr bool is_context = std::is_same_v<std::remove_cvref_t<T>, Context>;

/// The parameters without the Context.
template <class Done, class... Rest>
struct without_context;
template <class... Done>
struct without_context<TypeList<Done...>> {
  using type = TypeList<Done...>;
};
template <class... Done, class First, class... Rest>
struct without_context<TypeList<Done...>, First, Rest...> {
  using type =
      typename without_context<std::conditional_t<is_context<First>, TypeList<Done...>, TypeList<Done..., First>>,
                               Rest...>::type;
};

/// One signature: what is given, all parameters, and those that are arguments.
template <class R, class... P>
struct SignatureOf {
  static constexpr bool known = true;
  using Result = R;
  using Parameters = TypeList<P...>;
  using Arguments = typename without_context<TypeList<>, P...>::type;
};
struct NoSignature {
  static constexpr bool known = false;
  using Arguments = TypeList<>;
};

template <class T>
struct function_signature;

// Each form of a function type, once as a function and once as a member of a class.
#define IDEM_SIGNATURE(qualifiers, object)            \
  template <class R, class... P>                      \
  struct function_signature<R(P...) qualifiers> {     \
    using type = SignatureOf<R, P...>;                \
    template <class C>                                \
    using with_object = SignatureOf<R, object, P...>; \
  };                                                  \
  template <class R, class... P>                      \
  struct function_signature<R(P...) qualifiers noexcept> : function_signature<R(P...) qualifiers> {}
IDEM_SIGNATURE(, C&);
IDEM_SIGNATURE(const, const C&);
IDEM_SIGNATURE(&, C&);
IDEM_SIGNATURE(const&, const C&);
IDEM_SIGNATURE(&&, C&&);
IDEM_SIGNATURE(const&&, const C&&);
IDEM_SIGNATURE(volatile, volatile C&);
IDEM_SIGNATURE(const volatile, const volatile C&);
#undef IDEM_SIGNATURE

template <class F, class = void>
struct signature_of {
  using type = NoSignature;
};
template <class T>
requires std::is_function_v<T>
struct signature_of<T*, void> {
  using type = typename function_signature<T>::type;
};
template <class T, class C>
requires std::is_function_v<T>
struct signature_of<T C::*, void> {
  using type = typename function_signature<T>::template with_object<C>;
};
/// A function object whose call operator is neither overloaded nor a template.
template <class F>
struct signature_of<F, std::void_t<decltype(&F::operator())>> {
  template <class T, class C>
  static typename function_signature<T>::type pick(T C::*);
  template <class T>
  static typename function_signature<T>::type pick(T*);  // a static call operator of C++23
  using type = decltype(pick(&F::operator()));
};

template <class F>
using Signature = typename signature_of<std::remove_cv_t<F>>::type;

template <class List>
struct first_of {
  using type = void;
};
template <class First, class... Rest>
struct first_of<TypeList<First, Rest...>> {
  using type = First;
};

/// The index among the arguments of the parameter at `at`.
template <class... P>
constexpr std::size_t argument_index(std::size_t at) noexcept {
  constexpr bool context[] = {is_context<P>..., false};
  std::size_t index = 0;
  for (std::size_t i = 0; i < at; ++i) index += context[i] ? 0 : 1;
  return index;
}

template <class P, std::size_t I, class Tuple>
constexpr decltype(auto) pick(Tuple&& arguments, Context& context) noexcept {
  if constexpr (is_context<P>) {
    return (context);
  } else {
    return std::get<I>(std::forward<Tuple>(arguments));
  }
}

/// f(args…): a pointer to member takes its object first.
template <class F, class... A>
constexpr decltype(auto) invoke(F& function, A&&... arguments) {
  if constexpr (std::is_member_pointer_v<F>) {
    return [&](auto&& object, auto&&... rest) -> decltype(auto) {
      return (std::forward<decltype(object)>(object).*function)(std::forward<decltype(rest)>(rest)...);
    }(std::forward<A>(arguments)...);
  } else {
    return function(std::forward<A>(arguments)...);
  }
}

template <class F, class... P, class... A>
constexpr decltype(auto) invoke_known(F& function, TypeList<P...>, Context& context, A&&... arguments) {
  return [&]<std::size_t... I>(std::index_sequence<I...>)->decltype(auto) {
    auto all = std::forward_as_tuple(std::forward<A>(arguments)...);
    static_cast<void>(all);
    return invoke(function, pick<P, argument_index<P...>(I)>(std::move(all), context)...);
  }
  (std::index_sequence_for<P...>{});
}

/// Calls with the arguments, and with the Context where the callable has it: for several signatures, as its last or
/// first parameter.
template <class F, class... A>
constexpr decltype(auto) invoke_with_context(F& function, Context& context, A&&... arguments) {
  using Known = Signature<F>;
  if constexpr (Known::known) {
    return invoke_known(function, typename Known::Parameters{}, context, std::forward<A>(arguments)...);
  } else if constexpr (std::is_invocable_v<F&, A...>) {
    // A callable that takes whatever it's given isn't given a Context that it doesn't ask for.
    return function(std::forward<A>(arguments)...);
  } else if constexpr (std::is_invocable_v<F&, A..., Context&>) {
    return function(std::forward<A>(arguments)..., context);
  } else if constexpr (std::is_invocable_v<F&, Context&, A...>) {
    return function(context, std::forward<A>(arguments)...);
  } else {
    static_assert(
        std::is_invocable_v<F&, A...>,
        "idem: the callable can't be called with these arguments (nor with an idem::Context& before or behind)");
    return function(std::forward<A>(arguments)...);
  }
}

template <class F, class... A>
using CallResult = decltype(invoke_with_context(std::declval<F&>(), std::declval<Context&>(), std::declval<A>()...));

}  // namespace detail
IDEM_END_NAMESPACE
