// FDU-10, FLK-08: in which order a FileStore makes the system calls on which everything depends.
#include <doctest/doctest.h>

#include "support/tracing.hpp"

#if defined(IDEM_TEST_TRACING)

#include "support/directory.hpp"
#include "support/file_world.hpp"

#include <idem/file_store.hpp>
#include <idem/idem.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

using namespace file_world;
using tracing::Made;
using tracing::Seen;

namespace {

constexpr long function_mark = 100003;  // no system call's number
constexpr long answer_mark = 100004;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// What matters of the calls, in short: E lock, U unlock, W write, S fdatasync, F the function, A the answer.
std::string order_of(const std::vector<Made>& calls) {
  std::string order;
  for (const Made& call : calls) {
    const bool of_journal = ends_with(call.path, "/journal");
    switch (call.number) {
      case SYS_flock:
        if (!ends_with(call.path, "/lock")) break;
        order += (call.flags & ~std::uint64_t{LOCK_NB}) == LOCK_UN ? 'U' : 'E';
        break;
      case SYS_pwrite64:
        if (of_journal) order += 'W';
        break;
      case SYS_fdatasync:
        if (of_journal) order += 'S';
        break;
      case function_mark:
        order += 'F';
        break;
      case answer_mark:
        order += 'A';
        break;
      default:
        break;
    }
  }
  return order;
}

/// All calls that `act` makes with a store of a directory; with `warm` it has been at work.
template <class Act>
std::vector<Made> calls_of(const std::string& path, bool warm, Act&& act) {
  std::vector<Made> log;
  tracing::Plan plan;
  plan.log = &log;
  const Seen seen = tracing::trace(plan, [&] {
    FileStore store = store_at(path, Durability::power);
    if (warm && !works(store, idem::make_key("before")).empty()) return 1;
    tracing::begin();
    const bool good = act(store);
    tracing::end();
    return good ? 0 : 2;
  });
  REQUIRE(seen.result == 0);
  return log;
}

bool pays_once(FileStore& store) {
  const auto pay = idem::idempotent<"pay">(
      [](int number) {
        ::syscall(function_mark);
        return number;
      },
      store);
  const bool executed = pay.try_call(7).verdict() == idem::Verdict::executed;
  ::syscall(answer_mark);
  return executed;
}

}  // namespace

TEST_CASE("FDU-10: a claim is on disk before the function runs, its outcome before the answer, neither under the lock") {
  if (!tracing::possible()) return;
  const Place place;
  const std::vector<Made> calls = calls_of(place.path(), true, pays_once);
  CHECK(order_of(calls) == "EWUSFEWUSA");
}

TEST_CASE("FDU-10: nothing that was written is written over") {
  if (!tracing::possible()) return;
  const Place place;
  const std::vector<Made> calls = calls_of(place.path(), true, [](FileStore& store) {
    const Key key = idem::make_key("in place");
    for (int i = 0; i < 5; ++i) {
      if (!works(store, key).empty() || store.erase(key).answer != Answer::ok) return false;
      const Reply claimed = claim(store, key);
      if (store.release(key, claimed.record.owner).answer != Answer::ok) return false;
      const Reply again = claim(store, key);
      if (store.abandon(key, again.record.owner).answer != Answer::ok) return false;
      if (idem::resolve(store, key, idem::forever, "looked", 5) != Answer::ok) return false;
      if (store.erase(key).answer != Answer::ok) return false;
    }
    return true;
  });
  std::uint64_t end = 0;
  std::size_t writes = 0;
  for (const Made& call : calls) {
    if (call.number != SYS_pwrite64 || !ends_with(call.path, "/journal")) continue;
    CHECK(call.offset >= end);
    end = call.offset + call.size;
    ++writes;
  }
  CHECK(writes >= 5 * 8);
}

TEST_CASE("FDU-10: a new journal is on disk before it gets its name, and its name before anything is answered from it") {
  if (!tracing::possible()) return;
  const Place place;
  SUBCASE("of a new store") {
    const std::vector<Made> calls = calls_of(place.path(), false, pays_once);
    // The directory is synced after the rename and before the function.
    std::size_t renamed = 0, synced = 0, ran = 0, at = 0;
    bool content_synced_first = false;
    for (const Made& call : calls) {
      ++at;
      if (call.number == SYS_fdatasync && renamed == 0) content_synced_first = true;
      if ((call.number == SYS_renameat || call.number == SYS_linkat) && ends_with(call.path, "journal.next")) renamed = at;
      if (call.number == SYS_fsync && call.path == place.path() && synced == 0 && renamed != 0) synced = at;
      if (call.number == function_mark) ran = at;
    }
    CHECK(content_synced_first);
    CHECK(renamed != 0);
    CHECK(renamed < synced);
    CHECK(synced < ran);
  }
  SUBCASE("of a compaction") {
    const std::vector<Made> calls =
        calls_of(place.path(), true, [](FileStore& store) { return store.compact().answer == Answer::ok; });
    // The snapshot is on disk before the rename; what was appended meanwhile, and the rename itself, before the journal
    // that has all of it, too, is let go.
    std::size_t snapshot = 0, renamed = 0, content = 0, name = 0, let_go = 0, at = 0;
    for (const Made& call : calls) {
      ++at;
      if (call.number == SYS_fdatasync && ends_with(call.path, "/journal.next") && renamed == 0) snapshot = at;
      if (call.number == SYS_renameat && ends_with(call.path, "journal.next")) renamed = at;
      if (call.number == SYS_fdatasync && ends_with(call.path, "/journal") && renamed != 0) content = at;
      if (call.number == SYS_fsync && call.path == place.path() && renamed != 0) name = at;
      if (call.number == SYS_unlinkat && ends_with(call.path, "journal.old") && renamed != 0) let_go = at;
    }
    CHECK(snapshot != 0);
    CHECK(snapshot < renamed);
    CHECK(renamed < content);
    CHECK(content < name);
    CHECK(name < let_go);
  }
}

TEST_CASE("FLK-08: no shared lock is turned into an exclusive one, nor the other way round") {
  if (!tracing::possible()) return;
  World world;
  const std::vector<Made> calls = calls_of(world.path(), false, [](FileStore& store) {
    // Owners that live and that are dead are asked for on the way.
    store.for_each([](const idem::RecordView&) {});
    store.purge({});
    return works(store, idem::make_key("locks")).empty() && store.compact().answer == Answer::ok &&
           store.recover().answer == Answer::ok;
  });
  std::map<int, std::uint64_t> held;
  std::size_t shared = 0;
  for (const Made& call : calls) {
    if (call.number == SYS_close) held.erase(call.descriptor);
    if (call.number != SYS_flock) continue;
    const std::uint64_t wanted = call.flags & ~std::uint64_t{LOCK_NB};
    shared += wanted == LOCK_SH ? 1 : 0;
    const auto before = held.find(call.descriptor);
    const bool changes = before != held.end() && wanted != LOCK_UN && before->second != wanted;
    CHECK_MESSAGE(!changes, call.path);
    if (wanted == LOCK_UN) {
      held.erase(call.descriptor);
    } else {
      held[call.descriptor] = wanted;
    }
  }
  CHECK(shared != 0);
}

#else

TEST_CASE("FDU-10: the order of system calls is looked at only where the tests know how to trace them") {
  CHECK(true);
}

#endif
