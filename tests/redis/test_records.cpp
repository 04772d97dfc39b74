// What stands on the server: what the scripts may do to it, and what they make of values that aren't idem's.
#include <idem/detail/redis/scripts.hpp>
#include <idem/redis_store.hpp>

#include <doctest/doctest.h>

#include <cctype>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/process_support.hpp"
#include "support/redis_world.hpp"

namespace {

using namespace redis_world;
using idem::Key;
using idem::PayloadKind;
using idem::detail::redis::Script;
using idem::detail::redis::Scripts;
using process_support::eventually;

std::vector<std::string> all_scripts() {
  std::vector<std::string> texts;
  for (const bool flags : {true, false}) {
    const Scripts scripts(flags);
    for (const Script* script : {&scripts.claim, &scripts.renew, &scripts.finish, &scripts.give_up, &scripts.resolve,
                                 &scripts.find, &scripts.erase, &scripts.purge, &scripts.watch}) {
      texts.push_back(script->text);
    }
  }
  return texts;
}

/// Reads a script word by word; strings are words, and so is each other sign.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < text.size();) {
    const auto is_name = [&](std::size_t at) {
      return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '_');
    };
    const std::size_t begin = i;
    if (text[i] == '\'') {
      i = text.find('\'', i + 1) + 1;
    } else if (text.substr(i, 2) == "#!") {
      i = text.find('\n', i);
      continue;
    } else if (is_name(i)) {
      while (is_name(i)) ++i;
    } else {
      ++i;
    }
    if (text[begin] != ' ' && text[begin] != '\n') words.emplace_back(text.substr(begin, i - begin));
  }
  return words;
}

bool is_write(const std::vector<std::string>& words, std::size_t i) {
  if (words[i] != "redis" || words[i + 2] != "call") return false;
  const std::string& name = words[i + 4];
  return name != "'GET'" && name != "'GETRANGE'" && name != "'TIME'";
}

/// What may run from here on up to the script's end holds no command, and nothing that can fail: no more than the
/// answer. Branches not taken are passed over.
bool only_answers_from(const std::vector<std::string>& words, std::size_t i) {
  // To the end of the write's own parentheses.
  int open = 0;
  while (words[i] != "(") ++i;
  do {
    open += words[i] == "(" ? 1 : 0;
    open -= words[i] == ")" ? 1 : 0;
    ++i;
  } while (open != 0);
  for (; i < words.size(); ++i) {
    if (words[i] == "end") continue;
    if (words[i] == "else" || words[i] == "elseif") {
      int depth = 1;
      while (depth != 0) {
        ++i;
        depth += words[i] == "if" ? 1 : 0;
        depth -= words[i] == "end" ? 1 : 0;
      }
      continue;
    }
    if (words[i] != "return") return false;
    for (++i; i < words.size() && words[i] != "}"; ++i) {
      if (words[i] == "redis") return false;
    }
    return true;
  }
  return true;
}

/// A store's answers to everything that can be asked about one key.
std::vector<Reply> everything(RedisStore& store, const Key& key, const idem::Ownership& owner) {
  std::vector<Reply> replies;
  replies.push_back(claim(store, key));
  replies.push_back(take_over(store, key));
  idem::ClaimRequest at_once = new_claim();
  at_once.complete_at_once = true;
  replies.push_back(store.claim(key, at_once, nullptr));
  replies.push_back(store.renew(key, owner, 1h));
  replies.push_back(store.complete(key, outcome(owner, "x")));
  replies.push_back(store.fail(key, outcome(owner, "x")));
  replies.push_back(store.abandon(key, owner));
  replies.push_back(store.release(key, owner));
  idem::Resolution found;
  found.source = outcome(owner, "x").source;
  replies.push_back(store.resolve(key, found, "by hand"));
  replies.push_back(store.find(key));
  replies.push_back(store.erase(key));
  return replies;
}

}  // namespace

TEST_CASE("RLU-08 T-03: a script writes once, and what comes after the write can't fail") {
  std::size_t writes = 0;
  for (const std::string& text : all_scripts()) {
    CAPTURE(text);
    const std::vector<std::string> words = words_of(text);
    for (std::size_t i = 0; i + 4 < words.size(); ++i) {
      if (!is_write(words, i)) continue;
      ++writes;
      CHECK(only_answers_from(words, i));
    }
  }
  CHECK(writes == 2 * 13);  // claim 3, renew 1, finish 2, give_up 2, resolve 2, erase 1, purge 1, watch 1
}

TEST_CASE("RLU-09 RLU-12 RLU-14: scripts know one key and a few commands, and put no text into errors or other commands") {
  for (const std::string& text : all_scripts()) {
    CAPTURE(text);
    const std::vector<std::string> words = words_of(text);
    for (std::size_t i = 0; i + 8 < words.size(); ++i) {
      if (words[i] != "redis") continue;
      const std::string& function = words[i + 2];
      const std::string& name = words[i + 4];
      if (function == "pcall") {
        CHECK(name == "'PUBLISH'");
        continue;
      }
      CHECK(function == "call");
      CHECK_MESSAGE((name == "'GET'" || name == "'GETRANGE'" || name == "'SET'" || name == "'SETRANGE'" ||
                     name == "'DEL'" || name == "'TIME'"),
                    name);
      if (name == "'TIME'") continue;
      CHECK(words[i + 5] == ",");
      CHECK(words[i + 6] == "KEYS");
      CHECK(words[i + 8] == "1");
    }
    for (const char* const never : {"loadstring", "KEYS[2]", "error_reply", "status_reply", "error(", ".."" redis"}) {
      CHECK(text.find(never) == std::string::npos);
    }
  }
}

TEST_CASE("TIM-03: on a server that can't write a time nothing is claimed, since all would be taken for expired") {
  RedisServer& server = common_server();
  // What the server's library does where a long has 32 bits.
  std::string text = "local real=struct local struct={pack=function(f,...) local n,m=... if f=='<i8' then return "
                     "real.pack('<I4I4',n%4294967296,0) end return real.pack(f,...) end,unpack=function(f,...) "
                     "if f=='<i8' then return (real.unpack('<I4',...)) end return real.unpack(f,...) end}\n";
  text += idem::detail::redis::Scripts(true).claim.text;
  const Key key = idem::make_key("of 32 bits", 1);
  std::uint8_t head[idem::detail::redis::first_part];
  idem::detail::Bytes tail;
  idem::detail::redis::write_claim(head, tail, key.digest(), key.name(), key.version(), new_claim());
  const RedisReply reply = server.command({"EVAL", text, "1", name_of(key), "",
                                           std::string(reinterpret_cast<const char*>(head), sizeof head),
                                           std::string(idem::detail::redis::view(tail)), "1000000", "", "", "", ""});
  REQUIRE(reply.elements.size() == 2);
  CHECK(reply.elements[0].integer == static_cast<int>(Answer::unavailable));
  CHECK(reply.elements[1].integer == 1);
  CHECK(server.command({"EXISTS", name_of(key)}).integer == 0);
}

TEST_CASE("RLU-11 SER-06: what isn't a record is corrupt, and is neither written over nor deleted by anything") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const Key key = idem::make_key("foreign", 1);
  const std::string name = name_of(key);

  // Records to spoil: one that runs and one that is finished.
  const idem::Ownership owner = claim(store, key).record.owner;
  const std::string running = server.command({"GET", name}).text;
  REQUIRE(store.complete(key, outcome(owner, "value")).answer == Answer::ok);
  const std::string finished = server.command({"GET", name}).text;
  const auto with = [](std::string record, std::size_t at, std::string_view bytes) {
    return record.replace(at, bytes.size(), bytes);
  };
  using namespace std::string_view_literals;

  struct Foreign {
    std::string what;
    std::vector<std::string> made_by;  // behind the command: the key, and these
  };
  const std::vector<Foreign> all = {
      {"an empty string", {"SET", ""}},
      {"JSON", {"SET", R"({"status":"COMPLETED","data":"42"})"}},
      {"a lock of somebody's", {"SET", "1"}},
      {"an error that would end the protocol", {"SET", "\r\n-ERR no\r\n"}},
      {"a list", {"RPUSH", "a"}},
      {"a hash", {"HSET", "status", "INPROGRESS"}},
      {"a set", {"SADD", "a"}},
      {"a sorted set", {"ZADD", "1", "a"}},
      {"a stream", {"XADD", "*", "a", "b"}},
      {"bits", {"SETBIT", "4000", "1"}},
      {"a record's first letters", {"SET", "IDR"}},
      {"half a record", {"SET", running.substr(0, 60)}},
      {"a head but for its last byte", {"SET", running.substr(0, 115)}},
      {"a record of the next format, running", {"SET", with(running, 3, "\2"sv)}},
      {"a record of the next format, finished", {"SET", with(finished, 3, "\2"sv)}},
      {"a record of format zero", {"SET", with(finished, 3, "\0"sv)}},
      {"a state of zero", {"SET", with(running, 4, "\0"sv)}},
      {"a state that nobody knows", {"SET", with(running, 4, "\4"sv)}},
      {"a finished record in a state that nobody knows", {"SET", with(finished, 4, "\7"sv)}},
      {"the same, expired long ago", {"SET", with(with(finished, 4, "\7"sv), 60, std::string(8, '\0'))}},
      {"flags that nobody knows", {"SET", with(running, 5, "\4"sv)}},
      {"a head of zeros", {"SET", "IDR\1" + std::string(112, '\0')}},
  };
  for (const Foreign& foreign : all) {
    CAPTURE(foreign.what);
    server.command({"DEL", name});
    std::vector<std::string> command = foreign.made_by;
    command.insert(command.begin() + 1, name);
    server.command(command);
    const std::string before = server.command({"DUMP", name}).text;

    for (const Reply& reply : everything(store, key, owner)) {
      CHECK(reply.answer == Answer::corrupt);
      CHECK(!reply.message.empty());
      CHECK(reply.message.find("ERR no") == std::string::npos);
    }
    CHECK(store.purge({.in_doubt_older_than = idem::Duration(0s)}).complete);
    CHECK(store.clear() == 0);
    std::size_t seen = 0;
    store.for_each([&](const idem::RecordView&) { ++seen; });
    CHECK(seen == 0);
    CHECK(store.stats().available);
    CHECK(server.command({"DUMP", name}).text == before);
    CHECK(server.command({"PTTL", name}).integer == -1);
  }
}

TEST_CASE("SER-02: a finished record with one byte changed is no other value") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const Key key = idem::make_key("bytes", 1);
  const idem::Ownership owner = claim(store, key).record.owner;
  REQUIRE(store.complete(key, outcome(owner, "some value")).answer == Answer::ok);
  const std::string record = server.command({"GET", name_of(key)}).text;
  for (std::size_t i = 0; i < record.size(); ++i) {
    std::string changed = record;
    changed[i] = static_cast<char>(changed[i] ^ 0x10);
    server.command({"SET", name_of(key), changed});
    CAPTURE(i);
    const Reply reply = store.find(key);
    CHECK((reply.answer == Answer::corrupt || (reply.answer == Answer::completed && text_of(reply) == "some value") ||
           reply.answer == Answer::absent));
    // Only a time in the past says that it's over.
    if (reply.answer == Answer::absent) CHECK((i >= 60 && i < 68));
  }
  for (std::size_t size = 0; size < record.size(); ++size) {
    server.command({"SET", name_of(key), record.substr(0, size)});
    CHECK(store.find(key).answer == Answer::corrupt);
    CHECK(claim(store, key).answer == Answer::corrupt);
  }
  server.command({"SET", name_of(key), record + "x"});
  CHECK(store.find(key).answer == Answer::corrupt);
}

TEST_CASE("SEC-09 FSE-11: a record copied to another key isn't replayed there") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const Key mine = idem::make_key("pay", 1);
  const Key other = idem::make_key("pay", 2);
  REQUIRE(store.complete(mine, outcome(claim(store, mine).record.owner, "1 euro")).answer == Answer::ok);
  REQUIRE(store.complete(other, outcome(claim(store, other).record.owner, "2 euros")).answer == Answer::ok);
  server.command({"COPY", name_of(mine), name_of(other), "REPLACE"});
  CHECK(claim(store, other).answer == Answer::corrupt);
  CHECK(store.find(other).answer == Answer::corrupt);
  CHECK(text_of(store.find(mine)) == "1 euro");
}

TEST_CASE("RLU-12: names and results may hold anything; lengths alone say where they end") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server, "a:\r\n*1\r\n"));
  using namespace std::string_literals;
  for (const std::string& text : {"\r\n-ERR\r\n$5\r\n"s, "'..redis.call('FLUSHALL')--"s, "%s%n%b"s, "a\0b\0"s, "]]"s, ""s}) {
    CAPTURE(text);
    const Key key = idem::make_key("name" + text, 1);
    const Reply claimed = claim(store, key);
    REQUIRE(claimed.answer == Answer::acquired);
    REQUIRE(store.complete(key, outcome(claimed.record.owner, text)).answer == Answer::ok);
    CHECK(text_of(store.find(key)) == text);
    CHECK(text_of(claim(store, key)) == text);
    std::string shown;
    store.for_each([&](const idem::RecordView& view) { shown = view.text; });
    CHECK(shown == key.text());
    REQUIRE(store.erase(key).answer == Answer::ok);
  }
}

TEST_CASE("a name may be longer than what for_each asks for at first") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  for (const std::size_t size : {900U, 908U, 909U, 1024U, 5000U, 70'000U}) {
    CAPTURE(size);
    const Key key = idem::make_key(std::string(size, 'n'), 1);
    const Reply claimed = claim(store, key);
    REQUIRE(claimed.answer == Answer::acquired);
    std::string shown;
    store.for_each([&](const idem::RecordView& view) { shown = view.text; });
    CHECK(shown == key.text());
    REQUIRE(store.complete(key, outcome(claimed.record.owner, std::string(3000, 'p'))).answer == Answer::ok);
    store.for_each([&](const idem::RecordView& view) {
      CHECK(view.text == key.text());
      CHECK(view.status == idem::Status::completed);
    });
    CHECK(store.stats().bytes == static_cast<std::uint64_t>(server.command({"STRLEN", name_of(key)}).integer));
    CHECK(store.clear() == 1);
  }
}

TEST_CASE("a result that no answer could carry is lost, and its call completed; the largest that could is kept") {
  RedisServer& server = common_server();
  RedisOptions options = options_for(server);
  options.max_reply_bytes = 1 << 20;
  RedisStore store(options);
  const Key key = idem::make_key("large", 1);
  const std::size_t most = idem::detail::redis::most_payload(1 << 20, key.name().size());
  for (const std::size_t size : {most - 1, most, most + 1, std::size_t{3'000'000}}) {
    CAPTURE(size);
    const Reply claimed = claim(store, key);
    REQUIRE(claimed.answer == Answer::acquired);
    const std::string result(size, 'r');
    const Reply completed = store.complete(key, outcome(claimed.record.owner, result));
    CHECK(completed.answer == Answer::ok);
    const bool kept = size <= most;
    CHECK((completed.payload.kind() == PayloadKind::lost) == !kept);
    for (const Reply& reply : {store.find(key), claim(store, key)}) {
      CHECK(reply.answer == Answer::completed);
      CHECK(reply.payload.kind() == (kept ? PayloadKind::value : PayloadKind::lost));
      if (kept) CHECK(text_of(reply) == result);
    }
    REQUIRE(store.erase(key).answer == Answer::ok);
  }
}

TEST_CASE("a result that another program's larger answers could carry leaves its key unavailable, and others alone") {
  RedisServer& server = common_server();
  RedisOptions options = options_for(server);
  RedisStore large(options);
  options.max_reply_bytes = 1 << 20;
  options.timeout = 100ms;
  const Key key = idem::make_key("large", 2);
  REQUIRE(large.complete(key, outcome(claim(large, key).record.owner, std::string(2'000'000, 'r'))).answer == Answer::ok);
  // On a busy machine the time may be over before the answer has come. A store that can't know what became of its claim
  // would answer the next one by that doubt, so that each has one of its own.
  std::optional<RedisStore> small;
  CHECK(eventually([&] {
    small.emplace(options);
    const Reply reply = claim(*small, key);
    CHECK(reply.answer == Answer::unavailable);
    return reply.message.find("longer than what is allowed") != std::string::npos;
  }));
  CHECK(eventually([&] { return claim(*small, idem::make_key("large", 3)).answer == Answer::acquired; }));
  CHECK(text_of(large.find(key)).size() == 2'000'000);
}

TEST_CASE("RLU-05 RLU-07: a finished record's TTL is its retention, whatever the key had before; any other has none") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const auto expires = [&](const Key& key) { return server.command({"PEXPIRETIME", name_of(key)}).integer; };
  int number = 0;
  for (const idem::Duration ttl : {idem::Duration(1ns), idem::Duration(400us), idem::Duration(1h),
                                   idem::Duration(std::chrono::hours(24 * 365 * 100)), idem::Duration(-5s),
                                   idem::Duration(std::chrono::microseconds(std::int64_t{1} << 52))}) {
    for (const bool resolved : {false, true}) {
      const Key key = idem::make_key("ttl", ++number);
      const Reply claimed = claim(store, key);
      CHECK(expires(key) == -1);
      server.command({"PEXPIRE", name_of(key), "1000000"});
      Reply done;
      const std::int64_t began = idem::detail::boot_micros();
      if (resolved) {
        REQUIRE(store.abandon(key, claimed.record.owner).answer == Answer::ok);
        CHECK(expires(key) > 0);  // nobody has touched what an operator set
        idem::Resolution found;
        found.ttl = ttl;
        found.source = outcome({}, "x").source;
        done = store.resolve(key, found, "");
      } else {
        done = store.complete(key, outcome(claimed.record.owner, "x", ttl));
      }
      REQUIRE(done.answer == Answer::ok);
      // The server counts from the write, a little after the script has asked for the time.
      const std::int64_t late = idem::detail::boot_micros() - began;
      const std::int64_t says = done.record.expires_at.time_since_epoch().count();
      CHECK(says >= done.record.finished_at.time_since_epoch().count());
      const long long server_says = expires(key);
      if (server_says == -2) {
        // It's gone already, and so it's time: by the server's clock, which the store only estimates.
        const RedisReply time = server.command({"TIME"});
        REQUIRE(time.elements.size() == 2);
        CHECK(says <= std::stoll(time.elements[0].text) * 1'000'000 + std::stoll(time.elements[1].text));
        continue;
      }
      CHECK(server_says * 1000 >= says);
      CHECK(server_says * 1000 <= says + 2000 + late);
    }
  }
  for (const idem::Duration ttl : {idem::Duration(idem::forever), idem::Duration((std::chrono::nanoseconds::max)()),
                                   idem::Duration(std::chrono::microseconds((std::int64_t{1} << 52) + 1))}) {
    const Key key = idem::make_key("ttl", ++number);
    const Reply claimed = claim(store, key);
    server.command({"PEXPIRE", name_of(key), "1000000"});
    const Reply done = store.complete(key, outcome(claimed.record.owner, "x", ttl));
    CHECK(done.record.expires_at == (idem::TimePoint::max)());
    CHECK(expires(key) == -1);
    CHECK(text_of(store.find(key)) == "x");
  }
  // What is claimed and completed in one go.
  idem::ClaimRequest at_once = new_claim();
  at_once.complete_at_once = true;
  at_once.ttl = 1h;
  const Key key = idem::make_key("ttl", ++number);
  const std::int64_t began = idem::detail::boot_micros();
  const Reply done = store.claim(key, at_once, nullptr);
  const std::int64_t late = idem::detail::boot_micros() - began;
  CHECK(expires(key) * 1000 >= done.record.expires_at.time_since_epoch().count());
  CHECK(expires(key) * 1000 <= done.record.expires_at.time_since_epoch().count() + 2000 + late);
}

TEST_CASE("two builds with other scripts share a server, each calling its own") {
  RedisServer& server = common_server();
  server.command({"SCRIPT", "FLUSH"});
  // The neighbour's scripts have another text, and so another name: here the ones for servers before Redis 7.
  Between older(server, [](const RespCommand& command) {
    if (command[0] == "HELLO") return Between::Verdict{.answer = support::answer_to_greeting(command, 6)};
    return Between::Verdict{};
  });
  RedisStore ours(options_for(server));
  RedisStore theirs(older.options());
  for (int i = 0; i < 2; ++i) {
    RedisStore& first = i == 0 ? ours : theirs;
    RedisStore& second = i == 0 ? theirs : ours;
    const Key key = idem::make_key("two versions", i);
    const Reply claimed = claim(first, key);
    REQUIRE(claimed.answer == Answer::acquired);
    CHECK(claim(second, key).answer == Answer::running);
    CHECK(second.renew(key, claimed.record.owner, 2h).answer == Answer::ok);
    CHECK(first.find(key).record.lease_until > claimed.record.lease_until);
    CHECK(second.complete(key, outcome(claimed.record.owner, "shared")).answer == Answer::ok);
    CHECK(text_of(claim(first, key)) == "shared");
    CHECK(text_of(claim(second, key)) == "shared");
    CHECK(first.erase(key).answer == Answer::ok);
    CHECK(second.find(key).answer == Answer::absent);
  }
  const Scripts with_flags(true);
  for (const RespCommand& call : older.calls()) {
    if (call[0] == "EVALSHA") CHECK(call[1] != with_flags.finish.name());
  }
}
