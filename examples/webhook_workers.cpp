// Worker processes drain one Redis list of webhook deliveries with duplicates, and charge each payment at most once,
// though some of them are killed in the middle of a charge.
//
//   g++ -std=c++20 -O2 -pthread -Iinclude examples/webhook_workers.cpp -lhiredis -o webhook_workers
//   ./webhook_workers                            (needs redis-server; Debian: apt install redis-server libhiredis-dev)
//   ./webhook_workers --cluster                  (the same with idem's records in a Redis Cluster of six more servers)
//
// It starts a redis-server of its own on a unix socket, puts the deliveries into a list, and starts the workers, which
// are this program again. A worker moves a delivery to a list of its own before it works on it, so that the delivery of
// one that was killed goes back into the queue and comes to another: at least once, as queues promise. idem makes the
// charge at most once of it.
//
// The payment service is a file to which a line is appended for each charge, outside of Redis, so that what happened
// can be compared with what idem says: nobody was charged twice, and what is in doubt is listed. A worker was killed
// there after its claim and before its outcome; the payment service alone knows whether the money moved.
//
// Exit code: 0 when no payment was charged twice and each is either charged or in doubt, 1 when not, 2 when it could
// not be tried.
#include <hiredis/hiredis.h>
#include <idem/idem.hpp>
#include <idem/redis_store.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

constexpr int workers_at_a_time = 4;
constexpr int workers_that_crash = 8;  // the first ones, each at its own
constexpr int crash_at_charge = 25;
constexpr int random_kills = 4;  // of later ones, at any moment

const std::string queue = "webhooks:deliveries";
std::string in_hand(int worker) {
  return "webhooks:worker:" + std::to_string(worker);
}

struct Delivery {
  std::string payment_id;
  std::int64_t amount_minor = 0;
  std::string currency;
};

/// Of a line of deliveries.csv: delivered_at_ms,payment_id,attempt,amount_minor,currency,gateway_refusals.
Delivery parse(const std::string& line) {
  std::vector<std::string> fields(1);
  for (const char c : line) {
    if (c == ',') {
      fields.emplace_back();
    } else if (c != '\r') {
      fields.back() += c;
    }
  }
  if (fields.size() != 6) throw std::invalid_argument("not a delivery: " + line);
  return {fields[1], std::stoll(fields[3]), fields[4]};
}

/// The queue's connection. idem has one of its own.
class Queue {
 public:
  explicit Queue(const std::string& url) {
    const idem::RedisOptions server = idem::RedisOptions::from_url(url);
    context_.reset(server.unix_socket.empty() ? redisConnect(server.host.c_str(), server.port)
                                              : redisConnectUnix(server.unix_socket.c_str()));
    if (context_ == nullptr || context_->err != 0) throw std::runtime_error("cannot connect to " + url);
  }

  /// The reply's text; empty where there is nothing.
  std::string ask(const std::vector<std::string>& words) {
    std::vector<const char*> data;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      data.push_back(word.data());
      sizes.push_back(word.size());
    }
    const std::unique_ptr<redisReply, Free> reply(static_cast<redisReply*>(
        redisCommandArgv(context_.get(), static_cast<int>(words.size()), data.data(), sizes.data())));
    if (reply == nullptr) throw std::runtime_error(context_->errstr);
    if (reply->type == REDIS_REPLY_ERROR) throw std::runtime_error(reply->str);
    return reply->type == REDIS_REPLY_STRING ? std::string(reply->str, reply->len) : "";
  }

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
  };
  std::unique_ptr<redisContext, Free> context_;
};

/// The payment service. A line is appended whole or not at all.
void move_money(const std::string& charges, const Delivery& delivery) {
  const std::string line =
      delivery.payment_id + ' ' + std::to_string(delivery.amount_minor) + ' ' + delivery.currency + '\n';
  const int file = ::open(charges.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const bool written = file >= 0 && ::write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  if (file >= 0) ::close(file);
  if (!written) throw std::runtime_error("the payment service doesn't answer");
}

/// What all processes guard, by the payment's id. Returns the amount. The lease is how long it takes until others know
/// that a killed worker is gone.
template <class Charge>
auto make_charge_once(Charge charge, idem::RedisStore& store) {
  return idem::idempotent<"webhooks.charge">(
      std::move(charge), {.ttl = 24h, .on_conflict = idem::OnConflict::raise, .lease = 1s}, store,
      idem::key_by([](const Delivery& delivery) { return delivery.payment_id; }),
      idem::compare_by([](const Delivery& delivery) { return std::pair(delivery.amount_minor, delivery.currency); }));
}

/// Where idem's records are: a URL, or a list of a cluster's nodes.
idem::RedisOptions records_at(const std::string& place) {
  if (place.find("://") != std::string::npos) return idem::RedisOptions::from_url(place);
  idem::RedisOptions options;
  std::istringstream nodes(place);
  for (std::string node; std::getline(nodes, node, ',');) options.cluster_nodes.push_back(node);
  return options;
}

int work(const std::string& url, const std::string& records, const std::string& charges, int number) {
  idem::RedisStore store(records_at(records));
  int calls = 0;
  const auto charge_once = make_charge_once(
      [&](const Delivery& delivery) {
        const bool crashes = number < workers_that_crash && ++calls == crash_at_charge;
        if (crashes && number % 2 == 0) ::raise(SIGKILL);  // claimed, not charged
        move_money(charges, delivery);
        if (crashes) ::raise(SIGKILL);  // charged, not recorded
        return delivery.amount_minor;
      },
      store);

  Queue own(url);
  for (;;) {
    const std::string line = own.ask({"RPOPLPUSH", queue, in_hand(number)});
    if (line.empty()) return 0;
    const auto outcome = charge_once.try_call(parse(line));
    using idem::Verdict;
    const char* result = "duplicate";
    switch (outcome.verdict()) {
      case Verdict::executed:
        result = "charged";
        break;
      case Verdict::replayed:
        break;
      case Verdict::conflict:
        result = "other amount";
        break;
      case Verdict::in_doubt:
        result = "in doubt";
        break;
      default:
        // Nothing is known, so that the delivery stays in the worker's list and goes back into the queue.
        std::cerr << "worker " << number << ": " << outcome.error().message << '\n';
        return 1;
    }
    own.ask({"HINCRBY", "webhooks:results", result, "1"});
    own.ask({"DEL", in_hand(number)});
  }
}

/// A process that ends with this one. Only system calls between fork and exec.
pid_t start(const std::vector<std::string>& words, int output = -1) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("cannot start a process");
  if (pid > 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (output >= 0) ::dup2(output, 1);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

/// A redis-server in a directory of its own, both gone at the end. It keeps nothing on disk: with a server that
/// matters, an append-only file keeps idem's records over a restart.
class Server {
 public:
  explicit Server(const std::vector<std::string>& more = {"--port", "0"}) {
    const char* const above = std::getenv("TMPDIR");
    path_ = std::string(above != nullptr ? above : "/tmp") + "/webhook_workers.XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make a directory");
    const int log = ::open((path_ + "/log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    std::vector<std::string> words{
        "redis-server", "--unixsocket", path_ + "/socket", "--dir", path_, "--save", "", "--appendonly", "no"};
    words.insert(words.end(), more.begin(), more.end());
    pid_ = start(words, log);
    ::close(log);
    for (int tries = 0; ::access((path_ + "/socket").c_str(), F_OK) != 0; ++tries) {
      int status = 0;
      if (tries == 1000 || ::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        throw std::runtime_error("cannot start redis-server; is it installed?");
      }
      std::this_thread::sleep_for(10ms);
    }
  }
  ~Server() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string url() const { return "unix://" + path_ + "/socket"; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  pid_t pid_ = -1;
};

/// Three primaries, and a replica of each, on ports of the loopback interface.
class Cluster {
 public:
  Cluster() {
    std::random_device random;
    const int first = 15000 + static_cast<int>(random() % 500) * 10;  // a node listens at 10000 more, too
    std::vector<std::string> words{"redis-cli", "--cluster", "create"};
    for (int port = first; port < first + 6; ++port) {
      servers_.push_back(std::make_unique<Server>(
          std::vector<std::string>{"--port", std::to_string(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"}));
      const std::string node = "127.0.0.1:" + std::to_string(port);
      words.push_back(node);
      nodes_ += nodes_.empty() ? node : ',' + node;
    }
    words.insert(words.end(), {"--cluster-replicas", "1", "--cluster-yes"});
    const int log = ::open((servers_[0]->path() + "/create").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const pid_t pid = start(words, log);
    ::close(log);
    int status = -1;
    if (::waitpid(pid, &status, 0) != pid || status != 0)
      throw std::runtime_error("cannot create a cluster by redis-cli");
  }

  const std::string& nodes() const { return nodes_; }

 private:
  std::vector<std::unique_ptr<Server>> servers_;
  std::string nodes_;
};

/// Runs workers until the queue is empty. Those that die are replaced, and what they had in hand is delivered again.
/// The number of those that were killed.
int drain(const std::string& self, const std::string& url, const std::string& records, const std::string& charges,
          Queue& own) {
  std::map<pid_t, int> workers;
  int next = 0, killed = 0, kills_left = random_kills;
  const auto hire = [&] {
    workers.emplace(start({self, "--work", url, records, charges, std::to_string(next)}), next);
    ++next;
  };
  while (next < workers_at_a_time) hire();
  std::mt19937 random(20240229);
  while (!workers.empty()) {
    int status = 0;
    const pid_t gone = ::waitpid(-1, &status, WNOHANG);
    const auto found = workers.find(gone);
    if (found == workers.end()) {
      std::this_thread::sleep_for(20ms);
      const auto victim = std::next(workers.begin(), static_cast<int>(random() % workers.size()));
      if (victim->second >= workers_that_crash && kills_left > 0 && random() % 4 == 0) {
        --kills_left;
        ::kill(victim->first, SIGKILL);
      }
      continue;
    }
    own.ask({"RPOPLPUSH", in_hand(found->second), queue});
    workers.erase(found);
    if (WIFSIGNALED(status)) ++killed;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;  // the queue is empty
    if (next > 100) throw std::runtime_error("no worker comes through");
    hire();
  }
  return killed;
}

int tally(const std::vector<Delivery>& deliveries, const std::string& records, const std::string& charges) {
  std::map<std::string, int> charged;
  std::ifstream log(charges);
  for (std::string id, rest; log >> id && std::getline(log, rest);) ++charged[id];

  idem::RedisStore store(records_at(records));
  const auto charge_once = make_charge_once([](const Delivery&) { return std::int64_t{0}; }, store);
  std::map<std::string, Delivery> payments;
  for (const Delivery& delivery : deliveries) payments.emplace(delivery.payment_id, delivery);

  std::int64_t once = 0, more = 0, unknown = 0;
  std::vector<std::string> doubts;
  for (const auto& [id, delivery] : payments) {
    auto known = charge_once.find(delivery);
    // The lease of one that was killed last may still run.
    while (known && known->verdict() == idem::Verdict::in_progress) {
      std::this_thread::sleep_for(100ms);
      known = charge_once.find(delivery);
    }
    const int times = charged.count(id) == 0 ? 0 : charged[id];
    if (times > 1) ++more;
    if (known && known->verdict() == idem::Verdict::in_doubt) {
      doubts.push_back(id + (times == 0 ? ": the payment service has no charge" : ": the payment service has charged"));
    } else if (known && known->has_value() && times == 1) {
      ++once;
    } else {
      ++unknown;
    }
  }
  std::cout << "payments:               " << payments.size() << '\n'
            << "  charged once:         " << once << '\n'
            << "  charged twice:        " << more << '\n'
            << "  in doubt:             " << doubts.size() << '\n'
            << "  unaccounted for:      " << unknown << '\n';
  for (const std::string& doubt : doubts) std::cout << "in doubt: " << doubt << '\n';
  return more == 0 && unknown == 0 ? 0 : 1;
}

int run(const std::string& self, bool in_cluster, const std::string& file, std::string charges) {
  std::ifstream log(file);
  std::string line;
  if (!std::getline(log, line)) throw std::runtime_error("cannot read " + file);
  std::vector<std::string> lines;
  std::vector<Delivery> deliveries;
  while (std::getline(log, line)) {
    deliveries.push_back(parse(line));
    lines.push_back(line);
  }

  const Server server;
  const std::unique_ptr<const Cluster> cluster = in_cluster ? std::make_unique<Cluster>() : nullptr;
  const std::string records = in_cluster ? cluster->nodes() : server.url();
  if (charges.empty()) charges = server.path() + "/charges.log";
  Queue own(server.url());
  std::vector<std::string> push{"LPUSH", queue};
  for (const std::string& delivery : lines) {
    push.push_back(delivery);
    if (push.size() == 1000 || &delivery == &lines.back()) {
      own.ask(push);
      push.resize(2);
    }
  }
  const int killed = drain(self, server.url(), records, charges, own);

  const auto result = [&own](const char* name) {
    const std::string count = own.ask({"HGET", "webhooks:results", name});
    return count.empty() ? "0" : count;
  };
  std::cout << "deliveries:             " << deliveries.size() << '\n'
            << "  charged:              " << result("charged") << '\n'
            << "  duplicates:           " << result("duplicate") << '\n'
            << "  with another amount:  " << result("other amount") << '\n'
            << "  in doubt:             " << result("in doubt") << '\n'
            << "workers killed:         " << killed << '\n';
  return tally(deliveries, records, charges);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  try {
    if (words.size() == 5 && words[0] == "--work") return work(words[1], words[2], words[3], std::stoi(words[4]));
    const bool in_cluster = !words.empty() && words[0] == "--cluster";
    if (in_cluster) words.erase(words.begin());
    if (words.size() <= 2 && (words.empty() || words[0].compare(0, 2, "--") != 0)) {
      return run(std::filesystem::read_symlink("/proc/self/exe").string(), in_cluster,
                 words.empty() ? "examples/data/deliveries.csv" : words[0], words.size() == 2 ? words[1] : "");
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
  std::cerr << "usage: webhook_workers [--cluster] [DELIVERIES.csv [CHARGES.log]]\n";
  return 2;
}
