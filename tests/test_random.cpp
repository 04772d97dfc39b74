// Owner tokens and the generation of a process: never the same twice, not even after fork, and none without entropy.
#include <doctest/doctest.h>

#include <idem/detail/random.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <csignal>

#include <sys/random.h>
#include <sys/syscall.h>
#endif

using idem::OwnerToken;
using idem::detail::new_owner_token;
using idem::detail::process_generation;
using idem::detail::process_id;
using idem::detail::random_bytes;

#if defined(__linux__)

// What the tests let getrandom do. All tests of this program get the function below instead of the C library's.
namespace {

enum class Entropy { kernel, missing, interrupted_and_short, nothing, signalled };
thread_local Entropy entropy = Entropy::kernel;
thread_local int getrandom_calls = 0;

}  // namespace

extern "C" ssize_t getrandom(void* to, size_t size, unsigned flags) {
  ++getrandom_calls;
  const Entropy asked = entropy;
  switch (asked) {
    case Entropy::missing:
      errno = ENOSYS;
      return -1;
    case Entropy::nothing:
      return 0;
    case Entropy::interrupted_and_short:
      if (getrandom_calls % 2 == 1) {
        errno = EINTR;
        return -1;
      }
      size = (std::min)(size, size_t{7});
      break;
    case Entropy::kernel:
    case Entropy::signalled:
      break;
  }
  const long got = ::syscall(SYS_getrandom, to, size, flags);
  if (asked == Entropy::signalled) {
    entropy = Entropy::kernel;
    static_cast<void>(::raise(SIGUSR1));
  }
  return got;
}

#endif

namespace {

bool all_different(std::vector<OwnerToken> tokens) {
  std::sort(tokens.begin(), tokens.end(), [](const OwnerToken& a, const OwnerToken& b) {
    return std::pair(a.hi, a.lo) < std::pair(b.hi, b.lo);
  });
  return std::adjacent_find(tokens.begin(), tokens.end()) == tokens.end();
}

constexpr std::size_t token_count = 200;  // more than one buffer holds

std::vector<OwnerToken> take_tokens() {
  std::vector<OwnerToken> tokens;
  for (std::size_t i = 0; i < token_count; ++i) tokens.push_back(new_owner_token());
  return tokens;
}

}  // namespace

TEST_CASE("SEC-07: random bytes fill exactly what they are asked to fill") {
  const std::size_t sizes[] = {0, 1, 16, 255, 5000};
  for (const std::size_t size : sizes) {
    std::vector<unsigned char> seen(size);
    std::vector<unsigned char> bytes(size + 2, 0xa5);
    // Each byte has to become something other than zero within 64 attempts.
    for (int attempt = 0; attempt < 64; ++attempt) {
      std::fill(bytes.begin() + 1, bytes.end() - 1, static_cast<unsigned char>(0));
      REQUIRE(random_bytes(bytes.data() + 1, size));
      for (std::size_t i = 0; i < size; ++i) seen[i] = static_cast<unsigned char>(seen[i] | bytes[i + 1]);
    }
    CHECK(std::find(seen.begin(), seen.end(), 0) == seen.end());
    CHECK(bytes.front() == 0xa5);
    CHECK(bytes.back() == 0xa5);
  }
}

TEST_CASE("SEC-07: an owner token is true, equal to itself alone, and all zero is none") {
  const OwnerToken token = new_owner_token();
  CHECK(token);
  CHECK(token == OwnerToken{token.hi, token.lo});
  CHECK(token != OwnerToken{token.hi ^ 1u, token.lo});
  CHECK(token != OwnerToken{token.hi, token.lo ^ 1u});
  CHECK_FALSE(OwnerToken{});
  CHECK(OwnerToken{1, 0});
  CHECK(OwnerToken{0, 1});
}

TEST_CASE("SEC-07: all 128 bits of an owner token vary") {
  OwnerToken ones, zeros;
  for (const OwnerToken& token : take_tokens()) {
    ones.hi |= token.hi;
    ones.lo |= token.lo;
    zeros.hi |= ~token.hi;
    zeros.lo |= ~token.lo;
  }
  const std::uint64_t all = ~std::uint64_t{0};
  CHECK(ones == OwnerToken{all, all});
  CHECK(zeros == OwnerToken{all, all});
}

TEST_CASE("SEC-07: no two owner tokens of any threads are the same") {
  constexpr std::size_t threads = 8;
  std::vector<std::vector<OwnerToken>> taken(threads);
  std::vector<std::thread> running;
  for (std::size_t i = 0; i < threads; ++i) {
    running.emplace_back([&taken, i] {
      for (int j = 0; j < 2000; ++j) taken[i].push_back(new_owner_token());
    });
  }
  for (std::thread& thread : running) thread.join();
  std::vector<OwnerToken> all;
  for (const std::vector<OwnerToken>& part : taken) all.insert(all.end(), part.begin(), part.end());
  CHECK(all.size() == threads * 2000);
  CHECK(all_different(all));
}

TEST_CASE("SEC-07: a token that was handed out stays nowhere in the thread's buffer") {
  for (std::size_t round = 0; round < token_count; ++round) {
    const OwnerToken taken = new_owner_token();
    const idem::detail::TokenBuffer& buffer = idem::detail::token_buffer();
    bool found = false;
    for (std::size_t i = 0; i + sizeof taken <= sizeof buffer.bytes; ++i) {
      found = found || std::memcmp(buffer.bytes + i, &taken, sizeof taken) == 0;
    }
    CHECK_FALSE(found);
    for (std::size_t i = buffer.left; i < sizeof buffer.bytes; ++i) found = found || buffer.bytes[i] != 0;
    CHECK_FALSE(found);
  }
}

#if defined(__linux__)

TEST_CASE("SEC-07: without entropy there is no token, and none is made of what a failed call left") {
  // A thread of its own has an empty buffer.
  std::thread([] {
    for (const Entropy missing : {Entropy::missing, Entropy::nothing}) {
      entropy = missing;
      unsigned char byte = 0;
      errno = EBADF;
      CHECK_FALSE(random_bytes(&byte, 1));
      CHECK(errno == EBADF);
      CHECK_FALSE(new_owner_token());
      CHECK_FALSE(new_owner_token());
    }
    entropy = Entropy::kernel;
    const OwnerToken token = new_owner_token();
    CHECK(token);
    // What is in the buffer already is good; when it is used up the failure shows, and goes on showing.
    entropy = Entropy::missing;
    std::size_t tokens = 1;
    while (new_owner_token()) ++tokens;
    CHECK(tokens < token_count);
    CHECK_FALSE(new_owner_token());
  }).join();
}

TEST_CASE("SEC-07: interrupted calls and short answers of getrandom are gone on from") {
  std::thread([] {
    entropy = Entropy::interrupted_and_short;
    std::vector<unsigned char> seen(100), bytes(100);
    for (int attempt = 0; attempt < 64; ++attempt) {
      std::fill(bytes.begin(), bytes.end(), static_cast<unsigned char>(0));
      REQUIRE(random_bytes(bytes.data(), bytes.size()));
      for (std::size_t i = 0; i < bytes.size(); ++i) seen[i] = static_cast<unsigned char>(seen[i] | bytes[i]);
    }
    CHECK(std::find(seen.begin(), seen.end(), 0) == seen.end());
    CHECK(all_different(take_tokens()));
  }).join();
}

TEST_CASE("SEC-07: a system call for entropy serves many tokens") {
  std::thread([] {
    getrandom_calls = 0;
    static_cast<void>(take_tokens());
    CHECK(getrandom_calls >= 1);
    CHECK(getrandom_calls <= 10);
  }).join();
}

#endif

#if defined(__unix__)

namespace {

struct Report {
  std::int64_t id = 0;
  std::int64_t kernel_id = 0;
  std::uint64_t generation = 0;
  OwnerToken tokens[token_count];
};

Report report() {
  Report made;
  made.id = process_id();
  made.kernel_id = ::getpid();
  made.generation = process_generation();
  for (OwnerToken& token : made.tokens) token = new_owner_token();
  return made;
}

bool write_all(int to, const Report& made) {
  const char* bytes = reinterpret_cast<const char*>(&made);
  for (std::size_t done = 0; done < sizeof made;) {
    const ssize_t wrote = ::write(to, bytes + done, sizeof made - done);
    if (wrote <= 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

bool read_all(int from, Report& made) {
  char* bytes = reinterpret_cast<char*>(&made);
  for (std::size_t done = 0; done < sizeof made;) {
    const ssize_t got = ::read(from, bytes + done, sizeof made - done);
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

// Forks by `fork_now` a child that forks one itself; both report through a pipe.
template <class Fork>
std::vector<Report> reports_of_child_and_grandchild(Fork fork_now) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = fork_now();
  if (child == 0) {
    bool good = write_all(ends[1], report());
    const pid_t grandchild = fork_now();
    if (grandchild == 0) ::_exit(write_all(ends[1], report()) ? 0 : 1);
    int status = -1;
    good = ::waitpid(grandchild, &status, 0) == grandchild && status == 0 && good;
    ::_exit(good ? 0 : 1);
  }
  REQUIRE(child > 0);
  ::close(ends[1]);
  std::vector<Report> reports(2);
  for (Report& made : reports) REQUIRE(read_all(ends[0], made));
  ::close(ends[0]);
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  return reports;
}

template <class Fork>
void check_that_children_have_tokens_of_their_own(Fork fork_now) {
  const Report before = report();
  CHECK(before.id == before.kernel_id);
  // The buffer is not empty now, so that a child inherits tokens that it must not use.
  REQUIRE(idem::detail::token_buffer().left >= sizeof(OwnerToken));
  const std::vector<Report> children = reports_of_child_and_grandchild(fork_now);
  const Report after = report();
  std::vector<OwnerToken> tokens;
  for (const Report* made : {&before, &children[0], &children[1], &after}) {
    CHECK(made->id == made->kernel_id);
    tokens.insert(tokens.end(), made->tokens, made->tokens + token_count);
  }
  CHECK(all_different(tokens));
  CHECK(after.generation == before.generation);
  // The upper halves alone have to differ: a child can have the process id of an ancestor.
  CHECK((children[0].generation >> 32) > (before.generation >> 32));
  CHECK((children[1].generation >> 32) > (children[0].generation >> 32));
}

}  // namespace

TEST_CASE("SEC-07: after fork, parent, child and grandchild have tokens of their own") {
  check_that_children_have_tokens_of_their_own([] { return ::fork(); });
}

#if defined(__linux__) && defined(SYS_fork)
TEST_CASE("SEC-07: tokens differ also where a child was made without the C library") {
  static_cast<void>(process_id());
  if (idem::detail::process_state.word.load() == &idem::detail::process_state.word_without_page) {
    MESSAGE("nothing here erases a page in children but the C library's handlers");
    return;
  }
  check_that_children_have_tokens_of_their_own([] { return static_cast<pid_t>(::syscall(SYS_fork)); });
}
#endif

#if defined(__linux__)

namespace {

pid_t forked_by_signal = -1;
extern "C" void fork_in_handler(int) { forked_by_signal = ::fork(); }

}  // namespace

TEST_CASE("SEC-07: a signal handler that forks while a token is made leaves parent and child tokens of their own") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  struct sigaction action = {};
  struct sigaction previous = {};
  action.sa_handler = fork_in_handler;
  REQUIRE(::sigaction(SIGUSR1, &action, &previous) == 0);
  // The signal comes between the bytes of a new buffer and the first token made of them.
  idem::detail::token_buffer().left = 0;
  entropy = Entropy::signalled;
  const Report made = report();
  if (forked_by_signal == 0) ::_exit(write_all(ends[1], made) ? 0 : 1);
  REQUIRE(forked_by_signal > 0);
  ::close(ends[1]);
  Report of_child;
  REQUIRE(read_all(ends[0], of_child));
  ::close(ends[0]);
  int status = -1;
  CHECK(::waitpid(forked_by_signal, &status, 0) == forked_by_signal);
  CHECK(status == 0);
  CHECK(::sigaction(SIGUSR1, &previous, nullptr) == 0);
  std::vector<OwnerToken> tokens(made.tokens, made.tokens + token_count);
  tokens.insert(tokens.end(), of_child.tokens, of_child.tokens + token_count);
  CHECK(all_different(tokens));
}

#endif

TEST_CASE("SEC-07: threads that ask first at the same time agree on the generation of their process") {
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<std::uint64_t> seen(8);
    std::vector<std::thread> running;
    for (std::uint64_t& generation : seen) running.emplace_back([&generation] { generation = process_generation(); });
    for (std::thread& thread : running) thread.join();
    const bool agree = std::count(seen.begin(), seen.end(), seen[0]) == 8 && seen[0] == process_generation();
    ::_exit(agree && process_id() == ::getpid() ? 0 : 1);
  }
  REQUIRE(child > 0);
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

#endif
