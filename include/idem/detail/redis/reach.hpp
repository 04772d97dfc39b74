// Whether all servers that hold records can be used.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/answers.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/node.hpp>
#include <idem/detail/redis/nodes.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/record.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/runner.hpp>
#include <idem/detail/redis/trouble.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Connects to all servers that hold records, and makes and removes a record at each, so that whatever would keep a
/// claim, a renewal or an outcome from being made is known. Not safe for use by several threads at once.
class Reach {
 public:
  /// `until` is of boot_micros(). REQUIRES: the runner outlives it.
  Reach(Runner& runner, std::uint32_t min_replicas, std::int64_t until) noexcept
      : runner_(runner), min_replicas_(min_replicas), until_(until) {}

  /// False, with the reason, where one can't be used. May throw std::bad_alloc.
  bool all(Reason& why) {
    why = Reason("no server is known");
    bool whole = false;
    for (const NodeRef& node : runner_.nodes().all(until_, whole, why)) {
      if (!connects(*node, why)) return false;
      ClaimRequest request;
      request.owner = new_owner_token();
      if (!request.owner) return fail(why, "the system has no random bytes for an owner token");
      Digest key;
      if (!finds_key(node, request.owner, key) || works(key, request, why)) continue;
      if (node->is_always_there()) name_place(why, node->endpoint());
      return false;
    }
    if (whole) why.clear();
    return whole;
  }

 private:
  static bool fail(Reason& why, std::string_view text) noexcept {
    why = Reason(text);
    return false;
  }
  static bool fail(Reason& why, const ReplyNode& error) noexcept {
    why = words_of(error.text);
    return false;
  }

  /// A user who may not ask can use it all the same.
  bool connects(Node& node, Reason& why) {
    Request request;
    Command(request.command, 1).arg("PING");
    if (runner_.ask(node, request, until_) != Sent::answered) return fail(why, request.why.view());
    const ReplyNode said = request.reply.root();
    return said.type != ReplyType::error || said.text.substr(0, 6) == "NOPERM" || fail(why, said);
  }

  /// A key that nobody else has, and whose record is on that server. There is none where the prefix puts all records on
  /// another one.
  bool finds_key(const NodeRef& node, const OwnerToken& random, Digest& key) {
    store_token(key.bytes, random);
    Cluster* const cluster = runner_.nodes().cluster();
    if (cluster == nullptr) return true;
    for (std::uint32_t i = 0; i < 20'000; ++i) {
      store_le32(key.bytes + 16, i);
      std::uint32_t round = 0;
      if (cluster->owner(cluster->slot_of(key), round) == node) return true;
    }
    return false;
  }

  bool works(const Digest& key, ClaimRequest& request, Reason& why) {
    // Completed at once, it's gone by itself where it can't be removed.
    request.complete_at_once = true;
    const Span ttl(std::chrono::seconds(10));
    Bytes tail;
    std::uint8_t head[first_part];
    write_claim(head, tail, key, "idem.open", 1, request);
    Call claim{&Scripts::claim, key};
    claim.with({reinterpret_cast<const char*>(head), sizeof head}).with(view(tail)).with({}).with({}).with({});
    claim.with(ttl.view()).with(ttl.millis());
    const Answered claimed = runner_.run(claim, until_);
    Reply reply;
    fill_claim(reply, claimed, key, request.owner);
    if (reply.answer != Answer::acquired) return fail(why, reply.message) || names_right(key, why);
    if (claimed.replicas < min_replicas_) {
      return fail(why, "fewer replicas than min_replicas asks for have a claim, so that none would succeed");
    }
    // What waiting for a run takes; nobody runs with this epoch.
    Call watch{&Scripts::watch, key};
    const Answered looked = runner_.run(watch.with({}), until_);
    if (!looked.answered) return fail(why, looked.why.view()) || names_right(key, why);
    // What renewals do.
    if (!may(key, {"SETRANGE", "0", ""}, why)) return false;
    // By its text, which the server may be told again at any time.
    const Call erase{&Scripts::erase, key};
    const Answered erased = runner_.run(erase, until_, true);
    return erased.answered || fail(why, erased.why.view()) || names_right(key, why);
  }

  /// Of what a script may not do the server doesn't say what it was: so it's told each command by itself. Always false.
  bool names_right(const Digest& key, Reason& why) {
    static_cast<void>(lacks(key, {"TIME"}, why) || lacks(key, {"GET"}, why) ||
                      lacks(key, {"GETRANGE", "0", "0"}, why) || lacks(key, {"SET", "", "XX", "PX", "1"}, why) ||
                      lacks(key, {"DEL"}, why));
    return false;
  }
  bool lacks(const Digest& key, std::initializer_list<std::string_view> words, Reason& why) {
    Reason said;
    if (may(key, words, said) || said.view().find("NOPERM") == std::string_view::npos) return false;
    why = said;
    return true;
  }

  /// `words`: a command without its key, where it has one.
  bool may(const Digest& key, std::initializer_list<std::string_view> words, Reason& why) {
    Request request;
    const bool answered = runner_.ask(key, request, until_, [&](Request& to) {
      Bytes name(runner_.prefix().data(), runner_.prefix().size());
      write_digest(key, reinterpret_cast<char*>(name.extend(digest_digits)));
      const bool has_key = *words.begin() != "TIME";
      Command command(to.command, words.size() + (has_key ? 1 : 0));
      command.arg(*words.begin());
      if (has_key) command.arg(name.data(), name.size());
      for (const std::string_view* word = words.begin() + 1; word != words.end(); ++word) command.arg(*word);
    });
    if (!answered) return fail(why, request.why.empty() ? "the server doesn't answer" : request.why.view());
    return request.reply.root().type != ReplyType::error || fail(why, request.reply.root());
  }

  Runner& runner_;
  const std::uint32_t min_replicas_;
  const std::int64_t until_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
