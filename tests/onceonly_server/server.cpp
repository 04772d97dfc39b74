#include "server.hpp"

#include "service.hpp"

#include <httplib.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

namespace onceonly_server {

namespace {

std::string decoded(const std::string& text) { return httplib::detail::decode_url(text, false); }

std::optional<std::string> call_tool(const std::string& url, const std::string& body,
                                     const std::map<std::string, std::string>& headers) {
  const std::size_t path = url.find('/', url.find("://") + 3);
  httplib::Client client(url.substr(0, path));
  client.set_connection_timeout(2);
  client.set_read_timeout(2);
  const httplib::Headers all(headers.begin(), headers.end());
  const auto answer = client.Post(path == std::string::npos ? "/" : url.substr(path), all, body, "application/json");
  if (!answer || answer->status != 200) return std::nullopt;
  return answer->body;
}

}  // namespace

struct Server::Implementation {
  Service service;
  httplib::Server http;
  std::thread thread;
  int port = 0;

  mutable std::mutex mutex;
  std::condition_variable closing;
  bool closed = false;
  std::deque<Fault> faults;
  std::vector<Received> received;
  std::set<int> remote_ports;

  /// Waits, but not longer than the server lives.
  void sleep(unsigned milliseconds) {
    std::unique_lock lock(mutex);
    closing.wait_for(lock, std::chrono::milliseconds(milliseconds), [this] { return closed; });
  }

  std::optional<Fault> fault_for(const std::string& path) {
    const std::lock_guard lock(mutex);
    for (auto fault = faults.begin(); fault != faults.end(); ++fault) {
      if (!fault->path.empty() && fault->path != path) continue;
      Fault found = *fault;
      if (--fault->times == 0) faults.erase(fault);
      return found;
    }
    return std::nullopt;
  }

  void serve(const httplib::Request& request, httplib::Response& response) {
    if (request.path.substr(0, 11) == "/__control/") {
      control(request, response);
      return;
    }
    {
      const std::lock_guard lock(mutex);
      received.push_back({request.method, request.target, {request.headers.begin(), request.headers.end()}, request.body});
      remote_ports.insert(request.remote_port);
    }
    const std::string raw = request.target.substr(0, request.target.find('?'));
    if (raw.substr(0, 4) != "/v1/") {
      response.status = 404;
      response.set_content(R"({"detail":"not found"})", "application/json");
      return;
    }
    Asked asked;
    asked.method = request.method;
    std::string rest = raw.substr(3);
    asked.path = decoded(rest);
    for (std::size_t at = 1; at <= rest.size();) {
      const std::size_t end = (std::min)(rest.find('/', at), rest.size());
      asked.segments.push_back(decoded(rest.substr(at, end - at)));
      at = end + 1;
    }
    for (const auto& [name, value] : request.params) asked.query[name] = value;
    const std::string authorization = request.get_header_value("Authorization");
    if (authorization.substr(0, 7) == "Bearer ") asked.api_key = authorization.substr(7);
    asked.request_id = request.get_header_value("X-Request-Id");
    if (!request.body.empty()) asked.body = Json::parse(request.body, nullptr, false);

    const std::optional<Fault> fault = fault_for(rest);
    if (fault && fault->delay_ms != 0) sleep(fault->delay_ms);
    if (fault && fault->status != 0) {
      response.status = fault->status;
      for (const auto& [name, value] : fault->headers) response.set_header(name, value);
      response.set_content(fault->body.empty() ? R"({"detail":{"error":"told_to_fail"}})" : fault->body,
                           fault->body.empty() ? "application/json" : "text/html");
      return;
    }
    const Told answer = service.answer(asked);
    if (fault && fault->drop) {
      // A provider that gives up at once: httplib closes the connection.
      response.set_content_provider(
          1, "application/json", [](std::size_t, std::size_t, httplib::DataSink&) { return false; });
      return;
    }
    response.status = answer.status;
    for (const auto& [name, value] : answer.headers) response.set_header(name, value);
    response.set_content(answer.body.dump(), "application/json");
  }

  void control(const httplib::Request& request, httplib::Response& response) {
    const std::string what = request.path.substr(11);
    Json answer{{"ok", true}};
    if (request.method == "GET" && what == "requests") {
      answer = Json::array();
      const std::lock_guard lock(mutex);
      for (const Received& one : received) {
        Json headers = Json::object();
        for (const auto& [name, value] : one.headers) headers[name] = value;
        answer.push_back({{"method", one.method}, {"target", one.target}, {"headers", headers}, {"body", one.body}});
      }
    } else {
      const Json body = Json::parse(request.body, nullptr, false);
      try {
        if (what == "fail") {
          Fault fault;
          fault.path = body.value("path", "");
          fault.times = body.value("times", 1u);
          fault.status = body.value("status", 0);
          fault.body = body.value("body", "");
          fault.delay_ms = body.value("delay_ms", 0u);
          fault.drop = body.value("drop", false);
          if (body.contains("headers")) fault.headers = body["headers"].get<std::map<std::string, std::string>>();
          add(fault);
        } else if (what == "advance") {
          service.advance(std::chrono::milliseconds(static_cast<std::int64_t>(body.at("seconds").get<double>() * 1000)));
        } else if (what == "rate_limit") {
          service.limit_rate(body.at("requests").get<std::uint64_t>(),
                             std::chrono::seconds(body.at("seconds").get<std::int64_t>()));
        } else {
          response.status = 404;
          answer = {{"ok", false}};
        }
      } catch (const Json::exception& wrong) {
        response.status = 422;
        answer = {{"ok", false}, {"error", wrong.what()}};
      }
    }
    response.set_content(answer.dump(), "application/json");
  }

  void add(const Fault& fault) {
    if (fault.times == 0) return;
    const std::lock_guard lock(mutex);
    faults.push_back(fault);
  }
};

Server::Server(int port) : implementation_(std::make_unique<Implementation>()) {
  Implementation& own = *implementation_;
  own.service.call_tools_by(call_tool);
  const auto serve = [&own](const httplib::Request& request, httplib::Response& response) {
    own.serve(request, response);
  };
  own.http.Get(".*", serve).Post(".*", serve).Delete(".*", serve);
  own.http.set_keep_alive_max_count(100'000);
  own.http.set_tcp_nodelay(true);
  own.http.new_task_queue = [] { return new httplib::ThreadPool(16); };
  own.port = port == 0 ? own.http.bind_to_any_port("127.0.0.1") : (own.http.bind_to_port("127.0.0.1", port) ? port : -1);
  if (own.port <= 0) throw std::runtime_error("onceonly_server: can't listen on 127.0.0.1:" + std::to_string(port));
  own.thread = std::thread([&own] { own.http.listen_after_bind(); });
  while (!own.http.is_running()) std::this_thread::yield();
}

Server::~Server() {
  {
    const std::lock_guard lock(implementation_->mutex);
    implementation_->closed = true;
  }
  implementation_->closing.notify_all();
  implementation_->http.stop();
  implementation_->thread.join();
}

int Server::port() const noexcept { return implementation_->port; }
std::string Server::url() const { return "http://127.0.0.1:" + std::to_string(port()) + "/v1"; }
void Server::fail(const Fault& fault) { implementation_->add(fault); }
void Server::advance(idem::Duration span) { implementation_->service.advance(span); }
void Server::limit_rate(std::uint64_t requests, idem::Duration window) {
  implementation_->service.limit_rate(requests, window);
}
std::vector<Received> Server::received() const {
  const std::lock_guard lock(implementation_->mutex);
  return implementation_->received;
}
void Server::forget_received() {
  const std::lock_guard lock(implementation_->mutex);
  implementation_->received.clear();
}
std::size_t Server::connections() const {
  const std::lock_guard lock(implementation_->mutex);
  return implementation_->remote_ports.size();
}

}  // namespace onceonly_server
