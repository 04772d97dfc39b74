// Exceptions to bytes and back, for stores that keep bytes.
//
// What is rebuilt as itself: the classes of <stdexcept>, std::bad_alloc, std::system_error of the generic and the
// system category, and the types that the guard names in replay_exceptions; each by its exact type. Anything else
// becomes a ReplayedError with message and type name. The stored type is only ever compared with types named in the
// program: nothing stored chooses code to run.
#pragma once

#include <idem/codec.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/type_name.hpp>
#include <idem/error.hpp>

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <typeinfo>

#if IDEM_EXCEPTIONS && defined(__GLIBCXX__)
#include <cxxabi.h>  // readable type names
#elif IDEM_EXCEPTIONS && __has_include(<cxxabi.h>)
#include <cxxabi.h>
#endif

IDEM_BEGIN_NAMESPACE

namespace detail {
/// The types of replay_exceptions.
template <class... E>
struct ExceptionList {};
}  // namespace detail

#if IDEM_EXCEPTIONS

namespace detail {

/// Part of the record format; zero is reserved.
enum class FailureKind : std::uint8_t {
  logic_error = 1,
  invalid_argument = 2,
  domain_error = 3,
  length_error = 4,
  out_of_range = 5,
  runtime_error = 6,
  range_error = 7,
  overflow_error = 8,
  underflow_error = 9,
  bad_alloc = 10,
  generic_error = 11,  ///< system_error of the generic category
  system_error = 12,   ///< system_error of the system category
  named = 13,          ///< A type of replay_exceptions, by its codec or by its message.
  other = 14,
};

template <class E>
concept FromMessage = std::is_constructible_v<E, const std::string&> || std::is_constructible_v<E, const char*>;

template <class E>
constexpr bool check_replayable() {
  static_assert(Storable<E> || FromMessage<E>,
                "idem: a type in replay_exceptions needs an idem::codec, or a constructor from its message");
  return true;
}

/// An exception's message. Some give none.
inline std::string_view text_of(const std::exception& error) noexcept {
  const char* text = error.what();
  return text != nullptr ? std::string_view(text) : std::string_view();
}

// Templates as a whole, so that a program in which no store keeps bytes compiles nothing of them.
template <class Exceptions>
class FailureWriter;
template <class Exceptions>
class FailureReader;

template <class... Named>
class FailureWriter<ExceptionList<Named...>> {
 public:
  explicit FailureWriter(Writer& writer) noexcept : writer_(writer) {}

  void write(const std::exception_ptr& failure) {
    IDEM_TRY {
      std::rethrow_exception(failure);
    }
#if IDEM_RTTI
    IDEM_CATCH_STD(error) {
      const std::type_info& type = typeid(error);
      if ((named<Named>(error, type) || ...)) return;
      if (known<std::logic_error>(error, type, FailureKind::logic_error)) return;
      if (known<std::invalid_argument>(error, type, FailureKind::invalid_argument)) return;
      if (known<std::domain_error>(error, type, FailureKind::domain_error)) return;
      if (known<std::length_error>(error, type, FailureKind::length_error)) return;
      if (known<std::out_of_range>(error, type, FailureKind::out_of_range)) return;
      if (known<std::runtime_error>(error, type, FailureKind::runtime_error)) return;
      if (known<std::range_error>(error, type, FailureKind::range_error)) return;
      if (known<std::overflow_error>(error, type, FailureKind::overflow_error)) return;
      if (known<std::underflow_error>(error, type, FailureKind::underflow_error)) return;
      if (known<std::bad_alloc>(error, type, FailureKind::bad_alloc)) return;
      if (type == typeid(std::system_error)) {
        const auto& system = static_cast<const std::system_error&>(error);
        const bool generic = system.code().category() == std::generic_category();
        if (generic || system.code().category() == std::system_category()) {
          head(generic ? FailureKind::generic_error : FailureKind::system_error, own_message(system), {});
          writer_.write(std::int32_t{system.code().value()});
          return;
        }
      }
      head(FailureKind::other, text_of(error), readable(type));
    }
#else
    // Without run-time type information an exact type can't be told.
    IDEM_CATCH_STD(error) {
      head(FailureKind::other, text_of(error), {});
    }
#endif
    IDEM_CATCH_ALL {
      writer_.write(static_cast<std::uint8_t>(FailureKind::other));
      writer_.write(std::string_view{"an exception that isn't a std::exception"});
      writer_.write(std::string_view{});
    }
  }

 private:
  /// What std::system_error was made with, without the text of its code that it added.
  static std::string own_message(const std::system_error& error) {
    const std::string all = error.what();
    const std::string added = error.code().message();
    if (all == added) return {};
    const std::string tail = ": " + added;
    if (all.size() >= tail.size() && all.compare(all.size() - tail.size(), tail.size(), tail) == 0) {
      return all.substr(0, all.size() - tail.size());
    }
    return all;
  }

  void head(FailureKind kind, std::string_view message, std::string_view type) {
    writer_.write(static_cast<std::uint8_t>(kind));
    writer_.write(message);
    writer_.write(type);
  }

#if IDEM_RTTI
  template <class E>
  bool known(const std::exception& error, const std::type_info& type, FailureKind kind) {
    if (!(type == typeid(E))) return false;
    head(kind, text_of(error), {});
    return true;
  }

  template <class E>
  bool named(const std::exception& error, const std::type_info& type) {
    static_assert(std::is_base_of_v<std::exception, E>, "idem: a type in replay_exceptions must be a std::exception");
    static_assert(check_replayable<E>());
    if (!(type == typeid(E))) return false;
    head(FailureKind::named, text_of(error), type_name<E>);
    if constexpr (Storable<E>) {
      writer_.write(shape_fingerprint<E>());
      writer_.write(static_cast<const E&>(error));
    } else {
      writer_.write(std::uint64_t{0});
    }
    return true;
  }

  static std::string readable(const std::type_info& type) {
#if __has_include(<cxxabi.h>)
    int status = 0;
    char* name = ::abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
    if (name == nullptr) return type.name();
    std::string text = name;
    std::free(name);
    return text;
#else
    return type.name();
#endif
  }
#endif

  Writer& writer_;
};

template <class... Named>
class FailureReader<ExceptionList<Named...>> {
 public:
  FailureReader(Reader& reader, const Key& key, Effect effect) noexcept : reader_(reader), key_(key), effect_(effect) {}

  /// The stored failure, or nothing where the bytes are no failure (the reader then says why).
  std::exception_ptr read() {
    const auto kind = static_cast<FailureKind>(reader_.read<std::uint8_t>());
    const auto message = reader_.read<std::string>();
    const auto type = reader_.read<std::string>();
    if (!reader_.ok()) return nullptr;
    std::exception_ptr made;
    switch (kind) {
      case FailureKind::logic_error:
        made = std::make_exception_ptr(std::logic_error(message));
        break;
      case FailureKind::invalid_argument:
        made = std::make_exception_ptr(std::invalid_argument(message));
        break;
      case FailureKind::domain_error:
        made = std::make_exception_ptr(std::domain_error(message));
        break;
      case FailureKind::length_error:
        made = std::make_exception_ptr(std::length_error(message));
        break;
      case FailureKind::out_of_range:
        made = std::make_exception_ptr(std::out_of_range(message));
        break;
      case FailureKind::runtime_error:
        made = std::make_exception_ptr(std::runtime_error(message));
        break;
      case FailureKind::range_error:
        made = std::make_exception_ptr(std::range_error(message));
        break;
      case FailureKind::overflow_error:
        made = std::make_exception_ptr(std::overflow_error(message));
        break;
      case FailureKind::underflow_error:
        made = std::make_exception_ptr(std::underflow_error(message));
        break;
      case FailureKind::bad_alloc:
        made = std::make_exception_ptr(std::bad_alloc());
        break;
      case FailureKind::generic_error:
        made = system(message, std::generic_category());
        break;
      case FailureKind::system_error:
        made = system(message, std::system_category());
        break;
      case FailureKind::named:
        made = named(message, type);
        break;
      case FailureKind::other:
        made = replayed(message, type);
        break;
      default:
        reader_.fail("a failure of an unknown kind");
        break;
    }
    if (reader_.ok() && !reader_.at_end()) reader_.fail("bytes after the failure");
    return reader_.ok() ? made : nullptr;
  }

 private:
  std::exception_ptr replayed(const std::string& message, const std::string& type) const {
    return std::make_exception_ptr(ReplayedError({Verdict::failure_replayed, effect_, message}, key_, type));
  }

  std::exception_ptr system(const std::string& message, const std::error_category& category) {
    const std::error_code code(reader_.read<std::int32_t>(), category);
    // The empty message is what the constructor without one stands for.
    if (message.empty()) return std::make_exception_ptr(std::system_error(code));
    return std::make_exception_ptr(std::system_error(code, message));
  }

  std::exception_ptr named(const std::string& message, const std::string& type) {
    [[maybe_unused]] const auto shape = reader_.read<std::uint64_t>();
    std::exception_ptr made;
    const bool found = (rebuild<Named>(made, message, type, shape) || ...);
    if (found) return made;
    // This program doesn't name the type: its own bytes are skipped, its message is there.
    static_cast<void>(reader_.take_raw(reader_.remaining()));
    return replayed(message, type);
  }

  template <class E>
  bool rebuild(std::exception_ptr& made, const std::string& message, const std::string& type, std::uint64_t shape) {
    if (type != type_name<E>) return false;
    if constexpr (Storable<E>) {
      if (shape != shape_fingerprint<E>()) return false;
      E error = reader_.read<E>();
      made = std::make_exception_ptr(std::move(error));
    } else if constexpr (std::is_constructible_v<E, const std::string&>) {
      made = std::make_exception_ptr(E(message));
    } else {
      made = std::make_exception_ptr(E(message.c_str()));
    }
    return true;
  }

  Reader& reader_;
  const Key& key_;
  Effect effect_;
};

}  // namespace detail

#endif

IDEM_END_NAMESPACE
