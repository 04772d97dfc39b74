// The qualified name of a type, as text that g++ and clang agree on.
#pragma once

#include <cstddef>
#include <string_view>

#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// Returns a plain pointer: g++ explains a library's alias in the return type at the end of the text.
template <class T>
constexpr const char* pretty_type() noexcept {
  return __PRETTY_FUNCTION__;
}

constexpr std::string_view cut_type_name(std::string_view pretty) noexcept {
  const std::size_t begin = pretty.find("T = ") + 4;
  std::string_view name = pretty.substr(begin, pretty.rfind(']') - begin);
  // `;` begins g++'s explanations; `<` begins template arguments, which the compilers spell differently.
  return name.substr(0, name.find_first_of("<;"));
}

/// The qualified name of T without template arguments. The same text with g++ and clang for a class or enumeration that
/// is in named namespaces and classes and in no function; inline namespaces, functions and unnamed namespaces are
/// spelled differently.
template <class T>
inline constexpr std::string_view type_name = cut_type_name(pretty_type<T>());

}  // namespace detail
IDEM_END_NAMESPACE
