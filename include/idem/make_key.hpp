// Keys by hand, for claims without a guard.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/error.hpp>
#include <idem/key.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

IDEM_BEGIN_NAMESPACE

/// What a key is made of beside its parts.
struct KeySpec {
  std::string_view name = {};    ///< Must not be empty.
  std::string_view scope = {};   ///< A tenant, say.
  std::uint32_t version = 1;     ///< Of the call's meaning.
  std::string_view secret = {};  ///< HMAC-SHA-256 instead of SHA-256; see keyed_with.
};

/// The key of `parts` under a name. It's the key that `idempotent<"name">` gives a call with the same arguments and the
/// same scope, version and secret. Throws SerializationError where the name is empty, a part can't be a key at run time
/// (NaN), or there are parts but none that says anything (an empty event id).
template <class... Parts>
Key make_key(const KeySpec& spec, const Parts&... parts) {
  (detail::require_key_part<std::remove_cvref_t<Parts>>(), ...);
  const auto refuse = [](const char* why) {
    detail::raise(SerializationError({Verdict::invalid_key, Effect::not_run, why}, Key()));
  };
  if (spec.name.empty()) refuse("idem: a key needs a name");
  Key key;
  detail::KeyBuilder builder(
      key, detail::DomainRef::adopt(new detail::KeyDomain(spec.scope, spec.name, spec.version, {}, spec.secret)));
  (builder.part(parts), ...);
  if (builder.error() != nullptr) refuse(builder.error());
  if constexpr (sizeof...(Parts) > 0) {
    if (!(detail::says_something(parts) || ...)) refuse("idem: no part of this key says anything");
  }
  detail::KeyBuilder::digest(key);
  return key;
}

template <class... Parts>
Key make_key(std::string_view name, const Parts&... parts) {
  return make_key(KeySpec{.name = name}, parts...);
}

IDEM_END_NAMESPACE
