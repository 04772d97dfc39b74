// AnyStore: any store behind one type.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/store.hpp>

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

namespace detail {

/// One table per store type; each entry forwards to the store.
struct StoreTable {
  StoreTraits (*traits)(const void*);
  TimePoint (*now)(const void*);
  Peeked (*peek)(void*, const Key&, const Digest*);
  Reply (*claim)(void*, const Key&, const ClaimRequest&, LeaseWatch*);
  Reply (*renew)(void*, const Key&, const Ownership&, Duration);
  Reply (*complete)(void*, const Key&, const FinishRequest&);
  Reply (*fail)(void*, const Key&, const FinishRequest&);
  Reply (*release)(void*, const Key&, const Ownership&);
  Reply (*abandon)(void*, const Key&, const Ownership&);
  Reply (*resolve)(void*, const Key&, const Resolution&, std::string_view);
  Reply (*find)(void*, const Key&);
  Reply (*erase)(void*, const Key&);
  void (*wait)(void*, const Key&, std::uint64_t, TimePoint);
  void (*for_each)(void*, void*, void (*)(void*, const RecordView&));
  PurgeResult (*purge)(void*, const PurgeOptions&);
  std::size_t (*clear)(void*);
  StoreStats (*stats)(void*);
};

template <class S>
inline S& as_store(void* object) noexcept {
  return *static_cast<S*>(object);
}

template <class S>
inline constexpr StoreTable store_table = {
    [](const void* o) { return static_cast<const S*>(o)->traits(); },
    [](const void* o) { return static_cast<const S*>(o)->now(); },
    [](void* o, const Key& key, const Digest* fingerprint) {
      if constexpr (requires(S & s) { s.peek(key, fingerprint); }) {
        return as_store<S>(o).peek(key, fingerprint);
      } else {
        static_cast<void>(o), static_cast<void>(key), static_cast<void>(fingerprint);
        return Peeked();
      }
    },
    [](void* o, const Key& key, const ClaimRequest& r, LeaseWatch* w) { return as_store<S>(o).claim(key, r, w); },
    [](void* o, const Key& key, const Ownership& owner, Duration d) { return as_store<S>(o).renew(key, owner, d); },
    [](void* o, const Key& key, const FinishRequest& r) { return as_store<S>(o).complete(key, r); },
    [](void* o, const Key& key, const FinishRequest& r) { return as_store<S>(o).fail(key, r); },
    [](void* o, const Key& key, const Ownership& owner) { return as_store<S>(o).release(key, owner); },
    [](void* o, const Key& key, const Ownership& owner) { return as_store<S>(o).abandon(key, owner); },
    [](void* o, const Key& key, const Resolution& r, std::string_view n) { return as_store<S>(o).resolve(key, r, n); },
    [](void* o, const Key& key) { return as_store<S>(o).find(key); },
    [](void* o, const Key& key) { return as_store<S>(o).erase(key); },
    [](void* o, const Key& key, std::uint64_t epoch, TimePoint deadline) { as_store<S>(o).wait(key, epoch, deadline); },
    [](void* o, void* context, void (*each)(void*, const RecordView&)) {
      as_store<S>(o).for_each([&](const RecordView& view) { each(context, view); });
    },
    [](void* o, const PurgeOptions& options) { return as_store<S>(o).purge(options); },
    [](void* o) { return as_store<S>(o).clear(); },
    [](void* o) { return as_store<S>(o).stats(); },
};

}  // namespace detail

/// Any store behind one type: made from an lvalue (borrowed: it must outlive this and all copies), an rvalue (owned) or
/// a std::shared_ptr (shared). Copies refer to the same store. Satisfies Store; costs an indirect call per operation.
/// A guard on it needs a codec for its result, since the store behind may keep bytes.
/// Thread safety: that of the store behind it.
class AnyStore {
 public:
  static constexpr Keeps keeps = Keeps::either;

  template <class S>
  requires(!std::same_as<std::remove_cvref_t<S>, AnyStore> && Store<std::remove_cvref_t<S>>)
      AnyStore(S&& store) {  // NOLINT: conversion is the point
    using Held = std::remove_cvref_t<S>;
    static_assert(detail::detects_doubt<Held>(), "idem: AnyStore would hide that this store can't always tell a call "
                                                 "that was left in doubt from one that wasn't made");
    if constexpr (std::is_lvalue_reference_v<S>) {
      static_assert(!std::is_const_v<std::remove_reference_t<S>>, "idem: a store that is used can't be const");
      object_ = std::addressof(store);
    } else {
      auto owned = std::make_shared<Held>(std::move(store));
      object_ = owned.get();
      owner_ = std::move(owned);
    }
    table_ = &detail::store_table<Held>;
  }
  template <Store S>
  AnyStore(std::shared_ptr<S> store) noexcept  // NOLINT: conversion is the point
      : object_(store.get()), table_(&detail::store_table<S>), owner_(std::move(store)) {}

  StoreTraits traits() const { return table_->traits(object_); }
  TimePoint now() const { return table_->now(object_); }
  Peeked peek(const Key& key, const Digest* fingerprint) { return table_->peek(object_, key, fingerprint); }
  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch* watch) {
    return table_->claim(object_, key, request, watch);
  }
  Reply renew(const Key& key, const Ownership& owner, Duration lease) {
    return table_->renew(object_, key, owner, lease);
  }
  Reply complete(const Key& key, const FinishRequest& request) { return table_->complete(object_, key, request); }
  Reply fail(const Key& key, const FinishRequest& request) { return table_->fail(object_, key, request); }
  Reply release(const Key& key, const Ownership& owner) { return table_->release(object_, key, owner); }
  Reply abandon(const Key& key, const Ownership& owner) { return table_->abandon(object_, key, owner); }
  Reply resolve(const Key& key, const Resolution& resolution, std::string_view note) {
    return table_->resolve(object_, key, resolution, note);
  }
  Reply find(const Key& key) { return table_->find(object_, key); }
  Reply erase(const Key& key) { return table_->erase(object_, key); }
  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) { table_->wait(object_, key, epoch, deadline); }
  template <class Each>
  void for_each(Each&& each) {
    table_->for_each(
        object_, const_cast<void*>(static_cast<const void*>(std::addressof(each))),
        [](void* context, const RecordView& view) { (*static_cast<std::remove_reference_t<Each>*>(context))(view); });
  }
  PurgeResult purge(const PurgeOptions& options = {}) { return table_->purge(object_, options); }
  std::size_t clear() { return table_->clear(object_); }
  StoreStats stats() { return table_->stats(object_); }

 private:
  void* object_ = nullptr;
  const detail::StoreTable* table_ = nullptr;
  std::shared_ptr<void> owner_;
};

static_assert(Store<AnyStore>);

IDEM_END_NAMESPACE
