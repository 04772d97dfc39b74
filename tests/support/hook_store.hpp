// HookStore: a store in whose operations a test may step in, before and after they take effect.
#pragma once

#include <idem/store.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace guard_support {

enum class Op { claim, renew, complete, fail, release, abandon, resolve, find, erase };

/// Forwards to a borrowed store. `before` may answer in its place, `after` sees (and may change) its answer. Both are
/// called without locks, by the caller's thread, and are set before the store is used. Copies share them.
template <class S>
class HookStore {
 public:
  using Before = std::function<std::optional<idem::Reply>(Op, const idem::Key&)>;
  using After = std::function<void(Op, const idem::Key&, idem::Reply&)>;

  static constexpr idem::Keeps keeps = S::keeps;

  explicit HookStore(S& store, Before before = {}, After after = {})
      : store_(&store), hooks_(std::make_shared<Hooks>(Hooks{std::move(before), std::move(after)})) {}

  void before(Before hook) { hooks_->before = std::move(hook); }
  void after(After hook) { hooks_->after = std::move(hook); }

  idem::StoreTraits traits() const { return std::as_const(*store_).traits(); }
  idem::TimePoint now() const { return std::as_const(*store_).now(); }
  idem::Reply claim(const idem::Key& key, const idem::ClaimRequest& request, idem::LeaseWatch* watch) {
    return step(Op::claim, key, [&] { return store_->claim(key, request, watch); });
  }
  idem::Reply renew(const idem::Key& key, const idem::Ownership& owner, idem::Duration lease) {
    return step(Op::renew, key, [&] { return store_->renew(key, owner, lease); });
  }
  idem::Reply complete(const idem::Key& key, const idem::FinishRequest& request) {
    return step(Op::complete, key, [&] { return store_->complete(key, request); });
  }
  idem::Reply fail(const idem::Key& key, const idem::FinishRequest& request) {
    return step(Op::fail, key, [&] { return store_->fail(key, request); });
  }
  idem::Reply release(const idem::Key& key, const idem::Ownership& owner) {
    return step(Op::release, key, [&] { return store_->release(key, owner); });
  }
  idem::Reply abandon(const idem::Key& key, const idem::Ownership& owner) {
    return step(Op::abandon, key, [&] { return store_->abandon(key, owner); });
  }
  idem::Reply resolve(const idem::Key& key, const idem::Resolution& found, std::string_view note) {
    return step(Op::resolve, key, [&] { return store_->resolve(key, found, note); });
  }
  idem::Reply find(const idem::Key& key) {
    return step(Op::find, key, [&] { return store_->find(key); });
  }
  idem::Reply erase(const idem::Key& key) {
    return step(Op::erase, key, [&] { return store_->erase(key); });
  }
  void wait(const idem::Key& key, std::uint64_t epoch, idem::TimePoint deadline) {
    store_->wait(key, epoch, deadline);
  }
  template <class Each>
  void for_each(Each&& each) {
    store_->for_each(std::forward<Each>(each));
  }
  idem::PurgeResult purge(const idem::PurgeOptions& options) { return store_->purge(options); }
  std::size_t clear() { return store_->clear(); }
  idem::StoreStats stats() { return store_->stats(); }

 private:
  struct Hooks {
    Before before;
    After after;
  };

  template <class Act>
  idem::Reply step(Op op, const idem::Key& key, Act&& act) {
    if (hooks_->before) {
      if (std::optional<idem::Reply> reply = hooks_->before(op, key)) return std::move(*reply);
    }
    idem::Reply reply = act();
    if (hooks_->after) hooks_->after(op, key, reply);
    return reply;
  }

  S* store_;
  std::shared_ptr<Hooks> hooks_;
};

/// An answer that says that the store can't be reached.
inline idem::Reply unreachable() {
  idem::Reply reply;
  reply.message = "the store is down";
  return reply;
}

/// A hook that makes every call of one operation fail without taking effect.
inline auto always_unreachable(Op failing) {
  return [failing](Op op, const idem::Key&) {
    return op == failing ? std::optional<idem::Reply>(unreachable()) : std::nullopt;
  };
}

}  // namespace guard_support
