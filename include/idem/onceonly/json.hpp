// JSON as the OnceOnly client takes and gives it, and how it is read from an answer that nobody can trust.
#pragma once

#include <idem/detail/config.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

using Json = nlohmann::json;

namespace impl {

/// Deeper nesting isn't read: what is kept of an answer is copied and written recursively.
inline constexpr std::size_t max_json_depth = 100;

/// Whether brackets outside strings nest deeper than that. Says nothing else about the text.
inline bool nests_too_deep(std::string_view text) noexcept {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_json_depth) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

/// What the text says; `is_discarded()` where it isn't JSON, or nested too deep. Never throws for what the text holds.
inline Json parse_json(std::string_view text) {
  if (nests_too_deep(text)) return Json(Json::value_t::discarded);
  return Json::parse(text.begin(), text.end(), nullptr, false);
}

/// The member of an object, or nullptr: also where this isn't an object, or the member is null.
inline const Json* member_of(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// A member of the wrong type is as good as none.

inline std::optional<std::string> text_of(const Json& object, const char* name) {
  const Json* value = member_of(object, name);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return value->get_ref<const std::string&>();
}

inline std::optional<std::int64_t> integer_of(const Json& object, const char* name) {
  const Json* value = member_of(object, name);
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > most) return std::nullopt;
  return value->get<std::int64_t>();
}

inline std::optional<double> number_of(const Json& object, const char* name) {
  const Json* value = member_of(object, name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->get<double>();
}

inline std::optional<bool> flag_of(const Json& object, const char* name) {
  const Json* value = member_of(object, name);
  if (value == nullptr || !value->is_boolean()) return std::nullopt;
  return value->get<bool>();
}

inline std::optional<Json> object_of(const Json& object, const char* name) {
  const Json* value = member_of(object, name);
  if (value == nullptr || !value->is_object()) return std::nullopt;
  return *value;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
