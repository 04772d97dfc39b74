// What tests of the OnceOnly client share: transports that stand for the service, and one server for all.
#pragma once

#include <idem/onceonly/client.hpp>

#include <server.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace onceonly_support {

using idem::onceonly::Client;
using idem::onceonly::ClientOptions;
using idem::onceonly::Json;
using idem::onceonly::Request;
using idem::onceonly::Response;
using idem::onceonly::TransportFailure;

inline constexpr const char* secret_key = "once_live_secret_key";

inline Response answer(int status, const std::string& body, std::vector<idem::onceonly::Header> headers = {}) {
  Response response;
  response.status = status;
  response.body = body;
  response.headers = std::move(headers);
  return response;
}
inline Response answer(int status, const Json& body, std::vector<idem::onceonly::Header> headers = {}) {
  return answer(status, body.dump(), std::move(headers));
}
inline Response failure(TransportFailure what) {
  Response response;
  response.failure = what;
  response.message = "told to";
  return response;
}

/// Plays answers one after another, the last one for ever, and keeps the requests.
class Script {
 public:
  explicit Script(std::vector<Response> answers) : answers_(std::move(answers)) {}

  Response send(const Request& request) {
    const std::lock_guard lock(mutex_);
    requests.push_back(request);
    const std::size_t at = requests.size() <= answers_.size() ? requests.size() - 1 : answers_.size() - 1;
    return answers_[at];
  }

  std::vector<Request> requests;

 private:
  std::mutex mutex_;
  std::vector<Response> answers_;
};

/// Calls a function for each request.
struct Respond {
  std::function<Response(const Request&)> respond;
  Response send(const Request& request) { return respond(request); }
};

/// Pauses that were asked for, in milliseconds, instead of being made.
struct Pauses {
  std::shared_ptr<std::vector<std::int64_t>> all = std::make_shared<std::vector<std::int64_t>>();
  std::shared_ptr<std::mutex> mutex = std::make_shared<std::mutex>();
  void operator()(idem::Duration span) const {
    const std::lock_guard lock(*mutex);
    all->push_back(span.nanoseconds() / 1'000'000);
  }
};

inline ClientOptions options(const std::shared_ptr<Script>& script, unsigned retries = 0, Pauses pauses = {}) {
  ClientOptions options;
  options.api_key = secret_key;
  options.base_url = "http://service.test/v1";
  options.max_retries_429 = retries;
  options.transport = script;
  options.pause = pauses;
  return options;
}

/// A client of a script, and the script.
struct Scripted {
  explicit Scripted(std::vector<Response> answers, unsigned retries = 0)
      : script(std::make_shared<Script>(std::move(answers))), client(options(script, retries, pauses)) {}

  const Request& request(std::size_t index = 0) const { return script->requests.at(index); }
  std::size_t sent() const { return script->requests.size(); }

  Pauses pauses = {};
  std::shared_ptr<Script> script;
  Client client;
};

/// A client of a real server.
inline ClientOptions options(const onceonly_server::Server& server, const std::string& api_key = secret_key) {
  ClientOptions options;
  options.api_key = api_key;
  options.base_url = server.url();
  options.timeout = std::chrono::seconds(30);
  return options;
}

}  // namespace onceonly_support
