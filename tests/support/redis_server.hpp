// A redis-server of the test's own, and a plain client to look into it. No doctest here, the benchmark uses it, too:
// what goes wrong is thrown.
#pragma once

#include "directory.hpp"

#include <hiredis/hiredis.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace support {

struct RedisReply {
  int type = REDIS_REPLY_NIL;
  long long integer = 0;
  std::string text;  // of a string, a status and an error
  std::vector<RedisReply> elements;

  bool is_error() const { return type == REDIS_REPLY_ERROR; }
  bool is_nil() const { return type == REDIS_REPLY_NIL; }
};

/// One connection, one command at a time, by hiredis' own functions. Not for several threads at once.
class RedisClient {
 public:
  explicit RedisClient(const std::string& unix_socket)
      : context_(::redisConnectUnixWithTimeout(unix_socket.c_str(), timeval{20, 0})) {
    check();
    ::redisSetTimeout(context_.get(), timeval{20, 0});
  }
  explicit RedisClient(std::uint16_t port) : context_(::redisConnectWithTimeout("127.0.0.1", port, timeval{20, 0})) {
    check();
    ::redisSetTimeout(context_.get(), timeval{20, 0});
  }

  /// The reply, which may be an error of the server's. Throws where there is none.
  RedisReply command(const std::vector<std::string>& words) {
    std::vector<const char*> data;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      data.push_back(word.data());
      sizes.push_back(word.size());
    }
    void* const answer = ::redisCommandArgv(context_.get(), static_cast<int>(words.size()), data.data(), sizes.data());
    if (answer == nullptr) throw std::runtime_error(std::string("redis: ") + context_->errstr);
    const std::unique_ptr<void, Free> reply(answer);
    return copy(*static_cast<redisReply*>(answer));
  }

 private:
  struct Free {
    void operator()(redisContext* context) const { ::redisFree(context); }
    void operator()(void* reply) const { ::freeReplyObject(reply); }
  };

  void check() const {
    if (context_ == nullptr) throw std::runtime_error("redis: no memory");
    if (context_->err != 0) throw std::runtime_error(std::string("redis: ") + context_->errstr);
  }

  static RedisReply copy(const redisReply& from) {
    RedisReply to;
    to.type = from.type;
    to.integer = from.integer;
    if (from.str != nullptr) to.text.assign(from.str, from.len);
    for (std::size_t i = 0; i < from.elements; ++i) to.elements.push_back(copy(*from.element[i]));
    return to;
  }

  std::unique_ptr<redisContext, Free> context_;
};

struct RedisServerOptions {
  /// As redis-server takes them, after those that every server here is started with: {"--appendonly", "yes"}.
  std::vector<std::string> arguments = {};
  /// As whom the plain client looks in, where the server asks.
  std::string user = {};
  std::string password = {};
  /// The port is one for TLS; `arguments` names the files.
  bool tls = false;
  /// The server's clock can be stepped; see can_step_clock().
  bool steppable_clock = false;
  /// Where its directory is made: for servers of processes that are killed, and can't remove it.
  std::string above = Directory::base();
};

/// A redis-server on a free port of the loopback and on a unix socket in a directory of its own. It keeps nothing on
/// disk unless it is asked to. Killed with this object, and with the process that made it, however that ends.
///
/// The kernel kills it already with the thread that started it: tests start it from their main thread.
class RedisServer {
 public:
  explicit RedisServer(RedisServerOptions options = {}) : options_(std::move(options)) {
    for (int attempt = 0;; ++attempt) {
      port_ = free_port();
      try {
        start();
        return;
      } catch (const std::runtime_error&) {
        // Somebody else may have taken the port since.
        if (attempt == 5 || log().find("Address already in use") == std::string::npos) throw;
      }
    }
  }
  ~RedisServer() {
    if (maker_ == ::getpid()) end(SIGKILL);
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  /// A port that nobody listens at, below those that the kernel gives to outgoing connections: a client that tries to
  /// reach a server that is down could otherwise be given that very port, and meet itself.
  static std::uint16_t free_port() {
    int first = 32768;
    std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first;
    const int last = first > 12000 ? first - 1 : 65535;
    std::random_device random;
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const int port = last - static_cast<int>(random() % 10000);
      const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<std::uint16_t>(port));
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const int bound = ::bind(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address);
      ::close(probe);
      if (bound == 0) return static_cast<std::uint16_t>(port);
    }
    throw std::runtime_error("there is no free port");
  }

  std::uint16_t port() const { return port_; }
  std::string unix_socket() const { return directory_ / "socket"; }
  const std::string& directory() const { return directory_.path(); }
  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }

  /// Starts it (again), at the same port and with what it kept in its directory. Returns when it answers.
  void start() {
    std::ofstream(directory_ / "conf") << "bind 127.0.0.1\n" << (options_.tls ? "port 0\ntls-port " : "port ") << port_
                                       << "\nunixsocket " << unix_socket()
                                       << "\ndir " << directory()
                                       << "\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";
    std::vector<std::string> words{"redis-server", directory_ / "conf"};
    words.insert(words.end(), options_.arguments.begin(), options_.arguments.end());
    launch(words);
    const auto end_of_patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!answers()) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = 0;
        throw std::runtime_error("redis-server has ended at once; it said: " + log());
      }
      if (std::chrono::steady_clock::now() > end_of_patience) {
        kill();
        throw std::runtime_error("redis-server doesn't answer; it said: " + log());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  /// As an operator stops it: what it keeps is on disk.
  void stop() { end(SIGTERM); }
  /// As a crash ends it.
  void kill() { end(SIGKILL); }
  void restart() {
    end(SIGKILL);
    start();
  }

  /// Stops its process where it is, as a machine that hangs: its sockets stay open, nothing is answered.
  void pause() const {
    int status = 0;
    ::kill(pid_, SIGSTOP);
    if (::waitpid(pid_, &status, WUNTRACED) != pid_ || !WIFSTOPPED(status)) {
      throw std::runtime_error("redis-server can't be paused");
    }
  }
  void resume() const { ::kill(pid_, SIGCONT); }

  /// Whether this build has what it takes: see tests/redis/stepped_clock.cpp.
  static bool can_step_clock() { return !clock_library().empty(); }
  /// Sets the server's wall clock so far off, with steppable_clock.
  void set_clock_off(std::chrono::microseconds by) {
    const std::int64_t number = by.count();
    const int file = ::open(clock_file().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const bool written = file >= 0 && ::pwrite(file, &number, sizeof number, 0) == sizeof number;
    if (file >= 0) ::close(file);
    if (!written) throw std::runtime_error("cannot set a server's clock");
  }

  /// By a connection that is kept. An error of the server's is thrown: see ask().
  RedisReply command(const std::vector<std::string>& words) {
    RedisReply reply = ask(words);
    if (reply.is_error()) throw std::runtime_error("redis: " + words.front() + ": " + reply.text);
    return reply;
  }
  /// The same with the server's errors as replies.
  RedisReply ask(const std::vector<std::string>& words) {
    if (client_ == nullptr) client_ = std::make_unique<RedisClient>(connect());
    try {
      return client_->command(words);
    } catch (const std::runtime_error&) {
      client_.reset();
      throw;
    }
  }
  /// A connection of its own, authenticated.
  RedisClient connect() const {
    RedisClient client(unix_socket());
    if (options_.password.empty()) return client;
    std::vector<std::string> words{"AUTH"};
    if (!options_.user.empty()) words.push_back(options_.user);
    words.push_back(options_.password);
    if (const RedisReply reply = client.command(words); reply.is_error()) {
      throw std::runtime_error("redis: AUTH: " + reply.text);
    }
    return client;
  }

  /// A field of INFO, as text; empty where there is none.
  std::string info(const std::string& section, const std::string& field) {
    const std::string text = "\n" + command({"INFO", section}).text;
    const std::size_t found = text.find("\n" + field + ":");
    if (found == std::string::npos) return {};
    const std::size_t begin = found + field.size() + 2;
    return text.substr(begin, text.find('\r', begin) - begin);
  }
  /// How often a command was called since reset_statistics(), by its name in lower case: "evalsha", "config|get". What
  /// a script calls is counted, too.
  long long calls(const std::string& name) {
    const std::string line = info("commandstats", "cmdstat_" + name);
    return line.empty() ? 0 : std::atoll(line.c_str() + std::string_view("calls=").size());
  }
  void reset_statistics() { command({"CONFIG", "RESETSTAT"}); }
  /// Processor time that the server has used, in seconds.
  double cpu_seconds() {
    return std::atof(info("cpu", "used_cpu_user").c_str()) + std::atof(info("cpu", "used_cpu_sys").c_str());
  }

  /// What it has written to its log since its last start.
  std::string log() const {
    std::ifstream file(log_file());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

 private:
  std::string log_file() const { return directory_ / "log"; }
  std::string clock_file() const { return directory_ / "clock"; }

  /// tests/redis/stepped_clock.cpp is built beside the test program.
  static std::string clock_library() {
    char self[4096];
    const ssize_t size = ::readlink("/proc/self/exe", self, sizeof self);
    if (size <= 0) return {};
    std::string path(self, static_cast<std::size_t>(size));
    path.replace(path.rfind('/') + 1, std::string::npos, "libidem_stepped_clock.so");
    return ::access(path.c_str(), R_OK) == 0 ? path : std::string();
  }

  void launch(const std::vector<std::string>& words) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    std::vector<std::string> settings;
    if (options_.steppable_clock) {
      if (!can_step_clock()) throw std::runtime_error("this build can't step a server's clock");
      if (::access(clock_file().c_str(), F_OK) != 0) set_clock_off({});
      settings = {"LD_PRELOAD=" + clock_library(), "IDEM_STEPPED_CLOCK=" + clock_file()};
    }
    std::vector<char*> environment;
    for (std::string& setting : settings) environment.push_back(setting.data());
    for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
    environment.push_back(nullptr);
    const std::string log_path = log_file();
    const pid_t parent = ::getpid();

    client_.reset();
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) return;
    // Nothing here but system calls: other threads may have held any lock.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::close(0);
    ::close(1);
    ::close(2);
    ::open("/dev/null", O_RDONLY);
    ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup(1);
#if defined(SYS_close_range)
    ::syscall(SYS_close_range, 3U, ~0U, 0U);
#endif
    ::execvpe(arguments[0], arguments.data(), environment.data());
    ::dprintf(2, "%s cannot be started\n", arguments[0]);
    ::_exit(127);
  }

  bool answers() const {
    try {
      const RedisReply reply = connect().command({"PING"});
      return reply.text.compare(0, 7, "LOADING") != 0;
    } catch (const std::runtime_error&) {
      return false;
    }
  }

  void end(int signal) {
    client_.reset();
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    if (signal != SIGKILL) ::kill(pid_, SIGCONT);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
  }

  RedisServerOptions options_;
  Directory directory_{options_.above};
  const pid_t maker_ = ::getpid();
  std::uint16_t port_ = 0;
  pid_t pid_ = 0;
  std::unique_ptr<RedisClient> client_;
};

}  // namespace support
