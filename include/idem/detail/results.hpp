// Results and failures on their way to a store and back: as objects, or as bytes in an envelope.
//
// The envelope of bytes: a version (1), flags (1: sealed), then, sealed or not, the fingerprint of the result's shape
// (8 bytes, little-endian; zero for failures) and the value in the canonical encoding's exact form.
// docs/record-format.md
#pragma once

#include <idem/codec.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/failure.hpp>
#include <idem/outcome.hpp>
#include <idem/payload.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// The shape of no result at all.
inline constexpr std::uint64_t void_shape = 1;
inline constexpr std::uint8_t envelope_version = 1;
inline constexpr std::uint8_t envelope_sealed = 1;

struct NoSeal {};

/// Calls a user's encrypt or decrypt with whichever view of bytes it takes.
template <class F>
decltype(auto) call_sealer(const F& function, const Bytes& data, const Digest& associated) {
  using View = std::span<const std::byte>;
  if constexpr (std::is_invocable_v<const F&, View, View>) {
    return function(View(reinterpret_cast<const std::byte*>(data.data()), data.size()),
                    View(reinterpret_cast<const std::byte*>(associated.bytes), sizeof associated.bytes));
  } else {
    static_assert(std::is_invocable_v<const F&, std::string_view, std::string_view>,
                  "idem: the functions of seal_with take two std::span<const std::byte> or two std::string_view: "
                  "the data and the associated data");
    return function(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()),
                    std::string_view(reinterpret_cast<const char*>(associated.bytes), sizeof associated.bytes));
  }
}

/// Appends a container of bytes, or what is in an optional one; false where there is none.
template <class Container>
bool append_sealed(Bytes& to, const Container& from) {
  if constexpr (requires { from.has_value(); }) {
    return from.has_value() && append_sealed(to, *from);
  } else {
    static_assert(sizeof(*from.data()) == 1, "idem: the functions of seal_with give containers of bytes");
    to.append(from.data(), from.size());
    return true;
  }
}

/// Puts what `write` writes into an envelope. False where it can't be kept: too large, refused, or a codec or the seal
/// threw.
template <class Seal, class Write>
bool put_in_envelope(Bytes& out, const Key& key, const Seal& seal, std::size_t limit, std::uint64_t shape,
                     Write&& write) {
  IDEM_TRY {
    Bytes plain;
    std::uint8_t mark[8];
    store_le64(mark, shape);
    plain.append(mark, sizeof mark);
    Writer writer(plain, Form::exact, limit);
    write(writer);
    if (!writer.ok()) return false;
    out.push(envelope_version);
    if constexpr (std::is_same_v<Seal, NoSeal>) {
      static_cast<void>(key), static_cast<void>(seal);
      out.push(0);
      out.append(plain.data(), plain.size());
      return true;
    } else {
      out.push(envelope_sealed);
      return append_sealed(out, call_sealer(seal.encrypt, plain, key.digest()));
    }
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {
    return false;
  }
}

/// Opens an envelope and hands its shape and content to `read(shape, Reader&)`. False where it isn't one.
template <class Seal, class Read>
bool open_envelope(const std::uint8_t* data, std::size_t size, const Key& key, const Seal& seal, Read&& read) {
  if (size < 2 || data[0] != envelope_version || (data[1] & ~envelope_sealed) != 0) return false;
  const bool sealed = data[1] == envelope_sealed;
  if (sealed == std::is_same_v<Seal, NoSeal>) return false;
  IDEM_TRY {
    Bytes opened;
    const std::uint8_t* plain = data + 2;
    std::size_t left = size - 2;
    if constexpr (!std::is_same_v<Seal, NoSeal>) {
      const Bytes closed(plain, left);
      if (!append_sealed(opened, call_sealer(seal.decrypt, closed, key.digest()))) return false;
      plain = opened.data();
      left = opened.size();
    } else {
      static_cast<void>(key), static_cast<void>(seal);
    }
    if (left < 8) return false;
    Reader reader(plain + 8, left - 8);
    return read(load_le64(plain), reader) && reader.ok();
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {
    return false;
  }
}

/// How results of one guard are kept.
template <class R, class S, bool kept, class Seal, class Exceptions>
class ResultKeeping {
 public:
  using Value = std::remove_cv_t<R>;

  static constexpr bool objects_possible =
      S::keeps != Keeps::bytes && (std::is_void_v<R> || std::is_copy_constructible_v<R>);

  static constexpr bool check() {
    static_assert(std::is_void_v<R> || std::is_reference_v<R> || std::is_move_constructible_v<R>,
                  "idem: a result that can't be moved can't be handed on; return a std::unique_ptr or std::shared_ptr");
    if constexpr (kept && !std::is_void_v<R>) {
      static_assert(!std::is_reference_v<R>,
                    "idem: a reference can't be kept as a result; return a value, or add idem::without_result");
      static_assert(!std::is_pointer_v<R>,
                    "idem: a pointer can't be kept as a result; return a value, or add idem::without_result");
      if constexpr (!std::is_reference_v<R> && !std::is_pointer_v<R>) {
        static_assert(!is_view<Value>,
                      "idem: a view dangles once the run is over; return std::string or std::vector, or add "
                      "idem::without_result");
        if constexpr (S::keeps == Keeps::objects) {
          static_assert(std::is_copy_constructible_v<R>,
                        "idem: MemoryStore keeps copies of results, and this one can't be copied; return a "
                        "std::shared_ptr, or add idem::without_result");
        } else if constexpr (!is_view<Value>) {
          require_storable<Value>();
        }
      }
    }
    return true;
  }

  template <class Store>
  static bool as_object(const Store& store) noexcept {
    if constexpr (S::keeps == Keeps::objects) {
      return true;
    } else if constexpr (S::keeps == Keeps::either && objects_possible) {
      return store.traits().keeps == Keeps::objects;
    } else {
      static_cast<void>(store);
      return false;
    }
  }

  /// What to keep of a result. Refers to `value` and `scratch`.
  template <class Store>
  static Source source(const Store& store, const Slot<R>& value, const Key& key, const Seal& seal, std::size_t limit,
                       Bytes& scratch) {
    Source source;
    if constexpr (kept) {
      source.kind = PayloadKind::value;
      if (as_object(store)) {
        if constexpr (!std::is_void_v<R> && objects_possible) {
          source.type = &object_type<Value>;
          source.object = std::addressof(*value);
        }
      } else if constexpr (S::keeps != Keeps::objects) {
        bool fits = false;
        if constexpr (std::is_void_v<R>) {
          fits = put_in_envelope(scratch, key, seal, limit, void_shape, [](Writer&) {});
        } else {
          fits = put_in_envelope(scratch, key, seal, limit, shape_fingerprint<Value>(),
                                 [&](Writer& writer) { writer.write(static_cast<const Value&>(*value)); });
        }
        if (fits) {
          source.data = scratch.data();
          source.size = scratch.size();
        } else {
          source.kind = PayloadKind::lost;
        }
      }
    }
    static_cast<void>(store), static_cast<void>(value), static_cast<void>(key);
    static_cast<void>(seal), static_cast<void>(limit), static_cast<void>(scratch);
    return source;
  }

  /// Puts a stored result into `slot`. False where the payload is none of this type.
  static bool restore(const Payload& payload, const Key& key, const Seal& seal, Slot<R>& slot) {
    if constexpr (!kept) {
      return false;
    } else if constexpr (std::is_void_v<R>) {
      if (payload.holds_object()) return false;
      if (payload.size() == 0 && S::keeps != Keeps::bytes) {
        slot.emplace();
        return true;
      }
      const bool good =
          open_envelope(payload.data(), payload.size(), key, seal,
                        [](std::uint64_t shape, Reader& reader) { return shape == void_shape && reader.at_end(); });
      if (good) slot.emplace();
      return good;
    } else {
      if (payload.holds_object()) {
        if constexpr (objects_possible) {
          const Value* object = payload.template object<Value>();
          if (object == nullptr) return false;
          slot.emplace(*object);
          return true;
        }
        return false;
      }
      if constexpr (S::keeps != Keeps::objects) {
        const bool good =
            open_envelope(payload.data(), payload.size(), key, seal, [&](std::uint64_t shape, Reader& reader) {
              return decode_result<Value>(reader, shape, slot) && reader.ok();
            });
        if (!good) slot.reset();
        return good;
      }
      return false;
    }
  }

#if IDEM_EXCEPTIONS
  template <class Store>
  static Source failure_source(const Store& store, const std::exception_ptr& failure, const Key& key, const Seal& seal,
                               std::size_t limit, Bytes& scratch) {
    Source source;
    source.kind = PayloadKind::failure;
    if constexpr (S::keeps != Keeps::bytes) {
      if (S::keeps == Keeps::objects || store.traits().keeps == Keeps::objects) {
        source.type = &object_type<std::exception_ptr>;
        source.object = &failure;
        return source;
      }
    }
    static_cast<void>(store);
    const bool fits = put_in_envelope(scratch, key, seal, limit, 0,
                                      [&](Writer& writer) { FailureWriter<Exceptions>(writer).write(failure); });
    if (fits) {
      source.data = scratch.data();
      source.size = scratch.size();
    } else {
      source.kind = PayloadKind::lost;
    }
    return source;
  }

  /// The stored failure; nothing where the payload is none.
  static std::exception_ptr restore_failure(const Payload& payload, const Key& key, const Seal& seal, Effect effect) {
    if (payload.holds_object()) {
      const auto* object = payload.template object<std::exception_ptr>();
      return object == nullptr ? std::exception_ptr() : *object;
    }
    std::exception_ptr failure;
    open_envelope(payload.data(), payload.size(), key, seal, [&](std::uint64_t shape, Reader& reader) {
      if (shape != 0) return false;
      failure = FailureReader<Exceptions>(reader, key, effect).read();
      return failure != nullptr;
    });
    return failure;
  }
#endif

 private:
  template <class T>
  static constexpr bool is_view = requires {
    typename T::element_type;
    T::extent;
  }
  || requires(T& view) {
    view.remove_prefix(1);
    view.substr(0);
  };
};

/// Says in an outcome what a record means to somebody who only looks.
template <class R, class Keeping, bool kept, class Seal>
void describe(Outcome<R>& outcome, const Reply& reply, const Key& key, const Seal& seal) {
  ErrorInfo& info = OutcomeAccess::info(outcome);
  const bool failure = reply.answer == Answer::failed;
  switch (reply.answer) {
    case Answer::acquired:
    case Answer::running:
      info = {Verdict::in_progress, Effect::unknown, "idem: this call is running"};
      return;
    case Answer::in_doubt:
      info = {Verdict::in_doubt, Effect::unknown, "idem: an earlier run of this call ended without a recorded outcome"};
      return;
    case Answer::conflict:
      info = {Verdict::conflict, Effect::unknown, "idem: this key was used before with other arguments"};
      return;
    case Answer::completed:
    case Answer::failed:
      break;
    case Answer::corrupt:
      info = {Verdict::corrupt, Effect::unknown, "idem: the record of this call can't be read: " + reply.message};
      return;
    case Answer::absent:
      info = {Verdict::unavailable, Effect::unknown, "idem: nothing is recorded of this call"};
      return;
    default:
      info = {Verdict::unavailable, Effect::unknown, "idem: the store can't be used: " + reply.message};
      return;
  }
  static constexpr const char* unreadable =
      "idem: this call was made, but its stored result can't be read as the type that is asked for";
  switch (reply.payload.kind()) {
    case PayloadKind::value: {
      bool restored = false;
      IDEM_TRY {
        restored = Keeping::restore(reply.payload, key, seal, OutcomeAccess::value(outcome));
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL {
        // The record is good; it's this copy that couldn't be made.
        OutcomeAccess::value(outcome).reset();
        info = {Verdict::unrecorded, Effect::ran,
                "idem: this call was made, but copying its stored result threw an exception"};
        return;
      }
      if (restored) {
        info.verdict = Verdict::replayed;
        info.effect = Effect::ran;
      } else if (kept) {
        info = {Verdict::corrupt, Effect::ran, unreadable};
      } else {
        info = {Verdict::duplicate, Effect::ran, "idem: this call has been made"};
      }
      return;
    }
    case PayloadKind::failure:
      info = {Verdict::failure_replayed, Effect::ran, "idem: this call failed when it was made"};
#if IDEM_EXCEPTIONS
      OutcomeAccess::exception(outcome) = Keeping::restore_failure(reply.payload, key, seal, Effect::ran);
      if (OutcomeAccess::exception(outcome) == nullptr) info = {Verdict::corrupt, Effect::ran, unreadable};
#endif
      return;
    case PayloadKind::lost:
      info = {Verdict::unrecorded, Effect::ran, "idem: this call was made, but its result couldn't be kept"};
      return;
    case PayloadKind::nothing:
      break;
  }
  if (failure) {
    info = {Verdict::failure_replayed, Effect::unknown, "idem: this call failed, and nothing more was kept of it"};
  } else {
    info = {Verdict::duplicate, Effect::ran, "idem: this call has been made"};
  }
}

}  // namespace detail
IDEM_END_NAMESPACE
