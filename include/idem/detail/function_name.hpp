// The name that a guard derives from the function it's given.
#pragma once

#include <idem/codec.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/signature.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#if IDEM_RTTI && defined(__GNUC__)
#include <typeinfo>  // the only place where an instance of a function template says that it is one
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

template <auto Function>
constexpr const char* pretty_value() noexcept {
#if defined(__GNUC__) || defined(__clang__)
  return __PRETTY_FUNCTION__;
#else
  return __FUNCSIG__;
#endif
}

/// The function's name out of `… [with auto Function = NAME]` (g++) or `… [Function = &NAME]` (clang).
constexpr std::string_view cut_function_name(std::string_view pretty) noexcept {
  constexpr std::string_view mark = "Function = ";
  const std::size_t begin = pretty.find(mark) + mark.size();
  std::string_view name = pretty.substr(begin, pretty.rfind(']') - begin);
  while (!name.empty() && (name.front() == '&' || name.front() == ' ')) name.remove_prefix(1);
  return name;
}

template <auto Function>
inline constexpr std::string_view function_name = cut_function_name(pretty_value<Function>());

template <class T>
inline constexpr bool is_function_pointer =
    (std::is_pointer_v<T> && std::is_function_v<std::remove_pointer_t<T>>) || std::is_member_function_pointer_v<T>;

template <auto Function>
constexpr std::string_view derived_name() noexcept {
  using F = std::remove_cv_t<decltype(Function)>;
  static_assert(is_function_pointer<F>,
                "idem: a lambda or function object has no name of its own; give it one: "
                "idem::idempotent<\"billing.charge\">(callable, …)");
  if constexpr (is_function_pointer<F>) {
    constexpr std::string_view name = function_name<Function>;
    static_assert(name.find("anonymous") == std::string_view::npos,
                  "idem: a function in an anonymous namespace shares its name with others; give it one of its own: "
                  "idem::idempotent<\"billing.charge\">(function, …)");
    static_assert(name.find('<') == std::string_view::npos,
                  "idem: an instance of a template is spelled differently by different compilers; give it a name: "
                  "idem::idempotent<\"billing.charge\">(function, …)");
    static_assert(name.find("anonymous") != std::string_view::npos || name.find('(') == std::string_view::npos,
                  "idem: a function that is local to another one has no name of its own; give it one: "
                  "idem::idempotent<\"billing.charge\">(function, …)");
    return name;
  } else {
    return "?";
  }
}

template <class... P>
std::string joined_shapes(TypeList<P...>) {
  std::string all;
  [[maybe_unused]] const auto add = [&](std::string_view shape) {  // a function may have no parameter
    if (!all.empty()) all += ',';
    all += shape;
  };
  (add(parameter_shape<std::remove_cvref_t<P>>), ...);
  return all.empty() ? std::string("void") : all;
}

#if IDEM_RTTI && defined(__GNUC__)
template <auto Function>
struct FunctionTag {};

/// Whether the mangled name of `FunctionTag<f>` (Itanium C++ ABI, 5.1) says that `f` is an instance of a template, or a
/// member of one.
constexpr bool is_template_instance(std::string_view mangled) noexcept {
  constexpr std::string_view mark = "XadL_Z";
  const std::size_t begin = mangled.find(mark);
  if (begin == std::string_view::npos) return false;
  mangled.remove_prefix(begin + mark.size());
  const bool nested = mangled.starts_with('N');
  if (nested) mangled.remove_prefix(1);
  while (nested && mangled.find_first_of("rVKRO") == 0) mangled.remove_prefix(1);
  while (!mangled.empty() && mangled.front() != 'I') {
    if (mangled.front() == 'L') {  // internal linkage
      mangled.remove_prefix(1);
    } else if (mangled.starts_with("St")) {
      mangled.remove_prefix(2);
    } else if (mangled.front() == 'S') {  // what was named before
      mangled.remove_prefix(mangled.find('_') < mangled.size() ? mangled.find('_') + 1 : mangled.size());
    } else if (mangled.front() >= '0' && mangled.front() <= '9') {
      std::size_t size = 0;
      for (; !mangled.empty() && mangled.front() >= '0' && mangled.front() <= '9'; mangled.remove_prefix(1)) {
        size = size * 10 + static_cast<std::size_t>(mangled.front() - '0');
      }
      mangled.remove_prefix(size < mangled.size() ? size : mangled.size());
      if (!nested) break;
    } else {
      return false;
    }
  }
  return mangled.starts_with('I');
}
#endif

/// The shapes of the parameters, so that overloads have different keys. Throws std::invalid_argument for an instance of
/// a template: where the compiler's text of the name leaves its arguments out (clang; g++ for members), two instances
/// would share their keys.
template <auto Function>
std::string parameter_shapes() {
  using F = std::remove_cv_t<decltype(Function)>;
#if IDEM_RTTI && defined(__GNUC__)
  if (is_template_instance(typeid(FunctionTag<Function>).name())) {
    raise(std::invalid_argument(
        "idem: an instance of a template is spelled differently by different compilers; give it a name: "
        "idem::idempotent<\"billing.charge\">(function, ...)"));
  }
#endif
  if constexpr (is_function_pointer<F>) {
    return joined_shapes(typename Signature<F>::Arguments{});
  } else {
    return {};
  }
}

}  // namespace detail
IDEM_END_NAMESPACE
