// Key: what tells one guarded call from another.
//
// A key is made of scope, name, version and arguments. The first three, with the shapes of the parameters where the
// name was derived from a function, are digested once per guard into a prefix of 32 bytes; the canonical encoding of
// the arguments follows it. docs/encoding.md has the bytes.
#pragma once

#include <idem/codec.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE

namespace detail {

/// Writes text as `write` does, without what `write` makes of types of the program, so that a header that is included
/// everywhere needs no instance of it.
inline void write_text(Writer& out, std::string_view text) {
  encode_text(out, Tag::string, text.data(), text.size());
}

/// What all keys of one guard have in common. Immutable; counted by the keys and guards that refer to it.
class KeyDomain {
 public:
  /// `parameters`: the shapes of the parameter types where the name was derived from a function, else empty.
  KeyDomain(std::string_view scope, std::string_view name, std::uint32_t version, std::string_view parameters,
            std::string_view secret)
      : scope_(scope), name_(name), version_(version), mac_(secret.data(), secret.size()), keyed_(!secret.empty()) {
    Bytes bytes;
    Writer writer(bytes, Form::exact);
    write_text(writer, "idem key 1");
    write_text(writer, scope);
    write_text(writer, name);
    writer.put_tag_u64(Tag::non_negative, version);
    write_text(writer, parameters);
    prefix_ = digest(bytes.data(), bytes.size());
  }
  KeyDomain(const KeyDomain&) = delete;
  KeyDomain& operator=(const KeyDomain&) = delete;

  const std::string& scope() const noexcept { return scope_; }
  const std::string& name() const noexcept { return name_; }
  std::uint32_t version() const noexcept { return version_; }
  const Digest& prefix() const noexcept { return prefix_; }
  Digest digest(const void* data, std::size_t size) const noexcept {
    return keyed_ ? mac_.mac(data, size) : sha256(data, size);
  }

  // The builtins rather than <atomic>, which would cost every file that only makes keys as much as <string> does.
  void retain() const noexcept { __atomic_fetch_add(&references_, 1, __ATOMIC_RELAXED); }
  void drop() const noexcept {
    if (__atomic_fetch_sub(&references_, 1, __ATOMIC_ACQ_REL) == 1) delete this;
  }

 private:
  ~KeyDomain() = default;

  std::string scope_;
  std::string name_;
  std::uint32_t version_;
  HmacSha256 mac_;
  bool keyed_;
  Digest prefix_ = {};
  mutable std::size_t references_ = 1;
};

/// Refers to a domain. One that borrows doesn't count, which keeps a shared counter off the path of every call; each
/// copy of it counts.
class DomainRef {
 public:
  DomainRef() noexcept = default;
  /// Takes over the reference that a new domain starts with.
  static DomainRef adopt(const KeyDomain* domain) noexcept { return DomainRef(domain, true); }
  DomainRef borrow() const noexcept { return DomainRef(domain_, false); }

  DomainRef(const DomainRef& other) noexcept : domain_(other.domain_), counted_(other.domain_ != nullptr) {
    if (counted_) domain_->retain();
  }
  DomainRef(DomainRef&& other) noexcept : domain_(other.domain_), counted_(other.counted_) {
    other.domain_ = nullptr;
    other.counted_ = false;
  }
  DomainRef& operator=(DomainRef other) noexcept {
    const DomainRef mine(domain_, counted_);
    domain_ = other.domain_;
    counted_ = other.counted_;
    other.counted_ = false;
    return *this;
  }
  ~DomainRef() {
    if (counted_) domain_->drop();
  }

  const KeyDomain* operator->() const noexcept { return domain_; }
  explicit operator bool() const noexcept { return domain_ != nullptr; }

 private:
  DomainRef(const KeyDomain* domain, bool counted) noexcept : domain_(domain), counted_(counted) {}

  const KeyDomain* domain_ = nullptr;
  bool counted_ = false;
};

class KeyBuilder;

}  // namespace detail

/// What tells one guarded call from another: scope, name, version and arguments.
///
/// Two keys are equal when all of these are; how the arguments are compared is said in docs/encoding.md. A key holds
/// the arguments' bytes in memory; what leaves the process is `digest()` and `text()`, which don't reveal them (but a
/// digest without a secret of an argument with few possible values can be found by trying them all: see keyed_with).
/// Thread safety: a plain value.
class Key {
 public:
  /// An empty key, which no store accepts.
  Key() noexcept = default;

  bool valid() const noexcept { return static_cast<bool>(domain_) && bytes_.size() >= sizeof(Digest); }

  /// SHA-256 (FIPS 180-4), or HMAC-SHA-256 (RFC 2104) where the guard has a secret, of the key's bytes.
  Digest digest() const noexcept {
    if (digested_) return digest_;
    return valid() ? domain_->digest(bytes_.data(), bytes_.size()) : Digest{};
  }

  /// `name@version:` and the digest as 64 lower-case hexadecimal digits.
  std::string text() const {
    if (!valid()) return "(no key)";
    static constexpr char digits[] = "0123456789abcdef";
    std::string text = domain_->name();
    text += '@';
    text += std::to_string(domain_->version());
    text += ':';
    const Digest all = digest();
    for (const std::uint8_t byte : all.bytes) {
      text += digits[byte >> 4];
      text += digits[byte & 15];
    }
    return text;
  }

  std::string_view name() const noexcept { return domain_ ? std::string_view{domain_->name()} : std::string_view{}; }
  std::uint32_t version() const noexcept { return domain_ ? domain_->version() : 0; }

  /// A stable name for one of the effects behind this key, shaped like a UUID (version 8 of RFC 9562), to hand to a
  /// downstream service as its idempotency key. The same for every attempt; other labels give other names.
  std::string derived(std::string_view label) const;

  friend bool operator==(const Key& a, const Key& b) noexcept { return a.bytes_ == b.bytes_; }

  /// The canonical bytes: what stores in memory compare. Holds the arguments as they are, so it must not leave the
  /// process.
  const detail::Bytes& bytes() const noexcept { return bytes_; }

 private:
  friend class detail::KeyBuilder;

  detail::DomainRef domain_;
  detail::Bytes bytes_;
  Digest digest_ = {};
  bool digested_ = false;
};

namespace detail {

/// Makes a key: the domain's prefix, then each part. Where a part has no key form (NaN, a codec that refuses),
/// `error()` says why and the key stays unusable.
class KeyBuilder {
 public:
  /// What the key was before is forgotten.
  KeyBuilder(Key& key, DomainRef domain) noexcept : key_(key), writer_(cleared(key), Form::key) {
    key_.domain_ = std::move(domain);
    key_.bytes_.append(key_.domain_->prefix().bytes, sizeof(Digest));
  }

  template <class T>
  void part(const T& value) {
    write_part(writer_, value);
  }
  const char* error() const noexcept { return writer_.error(); }
  void refuse(const char* why) noexcept { writer_.refuse(why); }
  Writer& writer() noexcept { return writer_; }

  /// Digests now rather than at every use, for stores that go by the digest.
  static void digest(Key& key) noexcept {
    key.digest_ = key.domain_->digest(key.bytes_.data(), key.bytes_.size());
    key.digested_ = true;
  }
  static const DomainRef& domain(const Key& key) noexcept { return key.domain_; }
  /// The same key as one that may outlive the guard whose domain it borrowed. Allocates nothing.
  static Key owned(Key&& key) noexcept {
    const DomainRef counted = key.domain_;
    key.domain_ = counted;
    return std::move(key);
  }

 private:
  static Bytes& cleared(Key& key) noexcept {
    key.bytes_.clear();
    key.digested_ = false;
    return key.bytes_;
  }

  Key& key_;
  Writer writer_;
};

/// The digest of something else that belongs to the domain: fingerprints, derived keys.
inline Digest labelled_digest(const DomainRef& domain, std::string_view label, const void* data, std::size_t size) {
  Bytes bytes;
  Writer writer(bytes, Form::exact);
  write_text(writer, label);
  bytes.append(domain->prefix().bytes, sizeof(Digest));
  bytes.append(data, size);
  return domain->digest(bytes.data(), bytes.size());
}

/// Whether a key choice made by hand says anything at all: an empty string or an absent value doesn't.
template <class T>
constexpr bool says_something(const T& value) {
  if constexpr (requires { std::tuple_size<T>::value; }) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return (says_something(get<I>(value)) || ...);
    }
    (std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (requires { value.empty(); }) {
    return !value.empty();
  } else if constexpr (requires { value.has_value(); }) {
    return value.has_value() && says_something(*value);
  } else if constexpr (std::is_array_v<T>) {
    return !(sizeof(value) == sizeof(value[0]) && value[0] == decltype(value[0] + 0){});
  } else if constexpr (std::is_same_v<T, const char*> || std::is_same_v<T, const char8_t*>) {
    return value != nullptr && value[0] != 0;
  } else if constexpr (requires { value == nullptr; }) {
    return !(value == nullptr);
  } else {
    return true;
  }
}

}  // namespace detail

inline std::string Key::derived(std::string_view label) const {
  if (!valid()) return {};
  const Digest own = digest();
  detail::Bytes bytes;
  bytes.append(own.bytes, sizeof own.bytes);
  bytes.append(label.data(), label.size());
  Digest all = detail::labelled_digest(domain_, "idem derived key 1", bytes.data(), bytes.size());
  all.bytes[6] = static_cast<std::uint8_t>((all.bytes[6] & 0x0f) | 0x80);
  all.bytes[8] = static_cast<std::uint8_t>((all.bytes[8] & 0x3f) | 0x80);
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits[all.bytes[i] >> 4];
    text += digits[all.bytes[i] & 15];
  }
  return text;
}

IDEM_END_NAMESPACE
