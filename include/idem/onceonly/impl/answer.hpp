// Reading an answer of the service: what it says, and which error it is.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/onceonly/error.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/onceonly/transport.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// `Retry-After` as a number of seconds; a date, or anything else, counts as none.
inline std::optional<std::chrono::milliseconds> retry_after(const Response& response) {
  const std::string* text = response.header("Retry-After");
  if (text == nullptr || text->empty() || text->size() > 18) return std::nullopt;
  std::int64_t millis = 0;
  std::int64_t digit = 1000;
  bool fraction = false;
  bool digits = false;
  for (const char c : *text) {
    if (c == '.' && !fraction) {
      fraction = true;
      continue;
    }
    if (c < '0' || c > '9') return std::nullopt;
    digits = true;
    if (fraction) {
      digit /= 10;
      millis += (c - '0') * digit;
    } else {
      // Beyond a year it makes no difference, and can't overflow.
      if (millis < std::int64_t{365} * 24 * 3600 * 1000) millis = millis * 10 + (c - '0') * std::int64_t{1000};
    }
  }
  if (!digits) return std::nullopt;
  return std::chrono::milliseconds(millis);
}

/// The object of a success: what isn't one is wrapped as `data`, what isn't JSON is an empty one.
inline Json object_in(const Response& response) {
  Json body = parse_json(response.body);
  if (body.is_discarded()) return Json::object();
  if (body.is_object()) return body;
  Json wrapped = Json::object();
  wrapped["data"] = std::move(body);
  return wrapped;
}

/// A list arrives as an array, or as an object with `items` or `data`.
inline Json list_in(Json object) {
  for (const char* name : {"items", "data"}) {
    if (object.is_object() && object.contains(name) && object[name].is_array()) return std::move(object[name]);
  }
  return object.is_array() ? object : Json::array();
}

/// `detail` of an error's body where it has one, else the body; null where it isn't JSON.
inline Json detail_in(const Response& response) {
  Json body = parse_json(response.body);
  if (body.is_discarded()) return nullptr;
  if (const Json* detail = member_of(body, "detail"); detail != nullptr) return *detail;
  return body;
}

/// `text` without the secrets, should the service have sent them back.
inline std::string redacted(std::string text, const std::vector<std::string>& secrets) {
  static constexpr std::string_view mark = "[redacted]";
  for (const std::string& secret : secrets) {
    if (secret.empty()) continue;
    for (std::size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + mark.size()))
      text.replace(at, secret.size(), mark);
  }
  return text;
}

/// The same for every text in a value, its names included. Not deeper than an answer is read.
inline Json redacted(const Json& value, const std::vector<std::string>& secrets) {
  if (value.is_string()) return redacted(value.get_ref<const std::string&>(), secrets);
  if (value.is_array()) {
    Json list = Json::array();
    for (const Json& one : value) list.push_back(redacted(one, secrets));
    return list;
  }
  if (value.is_object()) {
    Json object = Json::object();
    for (const auto& [name, one] : value.items()) object[redacted(name, secrets)] = redacted(one, secrets);
    return object;
  }
  return value;
}

inline std::string message_in(const Json& detail, int status) {
  std::string message;
  if (std::optional<std::string> error = text_of(detail, "error"); error.has_value() && !error->empty()) {
    message = std::move(*error);
  } else if (std::optional<std::string> text = text_of(detail, "message"); text.has_value() && !text->empty()) {
    message = std::move(*text);
  } else if (detail.is_string()) {
    message = detail.get_ref<const std::string&>();
  }
  constexpr std::size_t longest = 1000;
  if (message.size() > longest) message.resize(longest);
  if (!message.empty()) return message;
  return "the OnceOnly service answered " + std::to_string(status);
}

/// What to say of an answer that isn't a success, without the secrets: these first, since what is cut off could end in
/// the middle of one.
inline std::string refusal_in(const Response& response, const std::vector<std::string>& secrets) {
  return "the OnceOnly service answered " + std::to_string(response.status) + ": " +
         message_in(redacted(detail_in(response), secrets), response.status);
}

/// Of a 403: whether it is about the API key.
inline bool about_the_key(const std::string& message) {
  std::string words;
  for (const char c : message) {
    words += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : (c == '_' || c == '-') ? ' ' : c;
  }
  const auto has = [&words](const char* word) { return words.find(word) != std::string::npos; };
  return has("forbidden") || (has("api key") && (has("invalid") || has("disabled")));
}

/// Raises the error of an answer that isn't a success.
[[noreturn]] IDEM_COLD inline void raise_status(const Response& response, const std::vector<std::string>& secrets,
                                                bool check_lock) {
  using idem::detail::raise;
  Json detail = redacted(detail_in(response), secrets);
  const std::string message = message_in(detail, response.status);
  const std::optional<std::chrono::milliseconds> wait = retry_after(response);
  const int status = response.status;
  switch (status) {
    case 401:
      raise(UnauthorizedError(message, status, std::move(detail), wait));
    case 402:
      raise(OverLimitError(message, status, std::move(detail), wait));
    case 403: {
      const bool feature = text_of(detail, "error") == "feature_not_available";
      if (check_lock || (!feature && about_the_key(message)))
        raise(UnauthorizedError(message, status, std::move(detail), wait));
      raise(ApiError(message, status, std::move(detail), wait));
    }
    case 422:
      raise(ValidationError(message, status, std::move(detail), wait));
    case 429:
      raise(RateLimitError(message, status, std::move(detail), wait));
    default:
      raise(ApiError(message, status, std::move(detail), wait));
  }
}

/// Raises the error of an answer that couldn't be had.
[[noreturn]] IDEM_COLD inline void raise_failure(const Response& response) {
  idem::detail::raise(
      TransportError("idem: no answer from the OnceOnly service: " + response.message, response.failure));
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
