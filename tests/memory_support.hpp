// What the tests of the memory store share: keys by hand, and each operation in one line.
#pragma once

#include <idem/memory_store.hpp>

#include <cstdint>
#include <utility>

namespace memory_support {

/// A key of one integer.
inline idem::Key key_of(int number) {
  static const idem::detail::DomainRef domain =
      idem::detail::DomainRef::adopt(new idem::detail::KeyDomain("", "memory test", 1, "", ""));
  idem::Key key;
  idem::detail::KeyBuilder builder(key, domain.borrow());
  builder.part(number);
  return key;
}

inline idem::Reply claim(idem::MemoryStore& store, const idem::Key& key, bool take_over = false) {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.take_over = take_over;
  return store.claim(key, request);
}

template <class T>
idem::FinishRequest outcome(const idem::Reply& claimed, const T& value, idem::Duration ttl = idem::forever,
                            idem::PayloadKind kind = idem::PayloadKind::value) {
  idem::FinishRequest request;
  request.owner = claimed.record.owner;
  request.ttl = ttl;
  request.source.kind = kind;
  request.source.type = &idem::object_type<T>;
  request.source.object = &value;
  return request;
}

/// Claims and completes; the answer to the completion.
template <class T>
idem::Reply put(idem::MemoryStore& store, const idem::Key& key, const T& value, idem::Duration ttl = idem::forever) {
  return store.complete(key, outcome(claim(store, key), value, ttl));
}

}  // namespace memory_support
