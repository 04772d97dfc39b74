// The sentinels of a primary, who say where it is.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/inquiry.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Thread safety: every member from any thread, but for construction and destruction. Deadlines are those of
/// boot_micros().
class Sentinels {
 public:
  /// `link`: how to log in at the sentinels. REQUIRES: there is one at least.
  Sentinels(std::vector<Endpoint> places, LinkSettings link, std::string master)
      : link_(std::move(link)), master_(std::move(master)), places_(std::move(places)) {}
  Sentinels(const Sentinels&) = delete;
  Sentinels& operator=(const Sentinels&) = delete;

  const LinkSettings& link() const noexcept { return link_; }
  const std::string& master() const noexcept { return master_; }
  std::size_t count() const noexcept { return places_.size(); }

  /// Where the primary is: what the one who knows of the latest failover says, once most have been heard, or all that
  /// can be. False, with the reason, where nobody knows.
  bool locate(std::int64_t deadline, Endpoint& to, Reason& why) noexcept {
    IDEM_TRY {
      std::vector<Endpoint> places;
      {
        const std::lock_guard guard(mutex_);
        places = places_;
      }
      const std::size_t most = places.size() / 2 + 1;
      std::size_t heard = 0;
      std::uint64_t latest = 0;
      for (const Endpoint& place : places) {
        const std::int64_t now = boot_micros();
        if (now >= deadline) break;
        Endpoint said;
        std::uint64_t epoch = 0;
        if (!ask(place, share_of(now, deadline, link_.connect_timeout), said, epoch, why)) {
          blame(place, why);
          defer(place);
          continue;
        }
        if (heard++ == 0 || epoch > latest) {
          to = std::move(said);
          latest = epoch;
        }
        if (heard == most) break;
      }
      return heard != 0;
    }
    IDEM_CATCH_ALL {
      why = Reason("no memory for asking the sentinels");
      return false;
    }
  }

  /// Where the store connects to, or is about to; without a host before the first time. Only an allocation can throw.
  Endpoint in_use() const {
    const std::lock_guard guard(mutex_);
    return in_use_;
  }
  void use(const Endpoint& place) {
    const std::lock_guard guard(mutex_);
    in_use_ = place;
  }

  /// The sentinel to turn to first. Only an allocation can throw.
  Endpoint first() const {
    const std::lock_guard guard(mutex_);
    return places_.front();
  }
  /// It's asked first from now on.
  void prefer(const Endpoint& place) noexcept { move(place, false); }
  /// It didn't answer, and is asked last from now on.
  void defer(const Endpoint& place) noexcept { move(place, true); }

 private:
  void move(const Endpoint& place, bool to_end) noexcept {
    const std::lock_guard guard(mutex_);
    const std::size_t count = places_.size();
    for (std::size_t at = 0; at < count; ++at) {
      if (!(places_[at] == place)) continue;
      for (; to_end && at + 1 < count; ++at) std::swap(places_[at], places_[at + 1]);
      for (; !to_end && at > 0; --at) std::swap(places_[at], places_[at - 1]);
      return;
    }
  }

  bool ask(const Endpoint& place, std::int64_t deadline, Endpoint& said, std::uint64_t& epoch, Reason& why) const {
    Inquiry inquiry(link_);
    if (inquiry.connect(place, deadline, why) != Shaken::good) return false;
    Bytes commands;
    Command(commands, 3).arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master_);
    Command(commands, 3).arg("SENTINEL").arg("MASTER").arg(master_);
    ReplyTree reply;
    if (!inquiry.send(commands, deadline, why) || !inquiry.receive(reply, deadline, why)) return false;
    const ReplyNode root = reply.root();
    if (root.type == ReplyType::error) return fail(why, root.text);
    if (root.type != ReplyType::array || reply.size() != 3) return fail(why, "it knows no primary of that name");
    if (!is_host(reply[1].text) || !read_port(reply[2].text, said.port)) {
      return fail(why, "it gave an address that can't be one");
    }
    said.host.assign(reply[1].text);
    // Who isn't allowed to ask this goes by the address alone.
    if (!inquiry.receive(reply, deadline, why)) return false;
    for (std::size_t i = 1; i + 1 < reply.size(); i += 2) {
      if (reply[i].text == "config-epoch") read_epoch(reply[i + 1].text, epoch);
    }
    return true;
  }

  static void read_epoch(std::string_view text, std::uint64_t& epoch) noexcept {
    if (text.empty() || text.size() > 19) return;
    std::uint64_t number = 0;
    for (const char digit : text) {
      if (digit < '0' || digit > '9') return;
      number = number * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    epoch = number;
  }

  static bool fail(Reason& why, std::string_view text) noexcept {
    why = Reason(text);
    return false;
  }

  static void blame(const Endpoint& place, Reason& why) noexcept {
    Reason said = why;
    name_place(said, place);
    why = Reason("no sentinel says where the primary is; the last one that was asked: ");
    why.add(said.view());
  }

  const LinkSettings link_;
  const std::string master_;
  mutable std::mutex mutex_;
  std::vector<Endpoint> places_;
  Endpoint in_use_{std::string(), 0, std::string()};
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
