// What all parts of a client share: options, transport, threads; and the way of one request there and back.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/store_clock.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/client_options.hpp>
#include <idem/onceonly/curl_transport.hpp>
#include <idem/onceonly/impl/answer.hpp>
#include <idem/onceonly/impl/pool.hpp>
#include <idem/onceonly/impl/url.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/onceonly/transport.hpp>
#include <idem/options.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>  // getenv
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// How long somebody waits for an answer, beside what the options say.
struct Patience {
  const Cancellation* cancellation = nullptr;  ///< Besides the client's end.
  bool once = false;                           ///< No retries: who asks has something else to do meanwhile.
  Duration timeout = forever;                  ///< Of a request.
};

/// One call as its wire form, apart from what all requests have.
struct Call {
  const char* method = "GET";
  std::string path = {};           ///< Begins with a slash; its segments are encoded already.
  std::vector<Header> query = {};  ///< Names and values, not encoded yet.
  std::optional<Json> body = {};
  std::string request_id = {};            ///< Sent as X-Request-Id where there is one.
  std::vector<std::string> secrets = {};  ///< Beside the API key, what must reach no error's text.
  Patience patience = {};
};

inline Call get_call(std::string path, std::vector<Header> query = {}) {
  Call call;
  call.path = std::move(path);
  call.query = std::move(query);
  return call;
}
inline Call post_call(std::string path, Json body) {
  Call call;
  call.method = "POST";
  call.path = std::move(path);
  call.body = std::move(body);
  return call;
}

class Session {
 public:
  explicit Session(ClientOptions options)
      : options_(checked(std::move(options))), clock_(options_.clock), pool_(options_.max_async_calls) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    close();
    // As with the pool's: a thread of the parent may be waiting in it.
    if (pool_.inherited()) static_cast<void>(waiting_.release());
  }

  const ClientOptions& options() const noexcept { return options_; }
  TimePoint now() const noexcept { return clock_.now(); }

  /// Runs `call()` on a thread of the client's.
  template <class F>
  std::future<std::invoke_result_t<F&>> later(F call) {
    return pool_.run(std::move(call));
  }

  /// Drops calls that haven't begun, interrupts pauses and transfers, then waits for calls that have.
  void close() noexcept {
    if (pool_.inherited()) return;
    pool_.stop();
    closed_.request();
    {
      // So that nobody is between looking and falling asleep.
      const std::lock_guard lock(waiting_->mutex);
    }
    waiting_->woken.notify_all();
    pool_.close();
  }
  const Cancellation& closed() const noexcept { return closed_; }

  /// False where the client was closed meanwhile.
  bool pause(Duration span, const Cancellation* cancellation = nullptr) {
    if (cancellation == nullptr) cancellation = &closed_;
    if (cancellation->requested()) return false;
    if (options_.pause) {
      options_.pause(span);
    } else {
      sleep(std::chrono::nanoseconds(span.nanoseconds()), *cancellation);
    }
    return !cancellation->requested();
  }

  /// Sends the request, and again as the options say. An answer of any kind, or why there is none. `maybe_done`:
  /// whether one before the last may have been carried out.
  Response exchange(const Call& call, bool* maybe_done = nullptr) {
    const Request request = request_for(call);
    const unsigned retries = call.patience.once ? 0 : options_.max_retries_429;
    for (unsigned attempt = 0;; ++attempt) {
      Response response;
      if (request.cancellation->requested()) {
        response.failure = TransportFailure::cancelled;
        response.message = "the client was closed";
        return response;
      }
      // Its connections are shared with the parent, whose answers would be read here.
      if (pool_.inherited()) {
        response.failure = TransportFailure::cancelled;
        response.message = "the client belongs to the parent of this process; make one in the child";
        return response;
      }
      response = options_.transport.send(request);
      if (!worth_another(response) || attempt >= retries) return response;
      if (maybe_done != nullptr && response.status != 429) *maybe_done = true;
      const std::optional<std::chrono::milliseconds> asked = retry_after(response);
      if (asked.has_value() && *asked > longest_retry_after) return response;
      if (!pause(asked.has_value() ? Duration(*asked) : backoff(attempt), request.cancellation)) return response;
    }
  }

  /// The answer's object; whatever isn't a success is raised.
  Json call(const Call& call) {
    const Response response = exchange(call);
    if (response.failure != TransportFailure::none) raise_failure(response);
    if (response.status < 200 || response.status >= 300) raise_status(response, secrets_of(call), false);
    return object_in(response);
  }

  /// What must reach no error's text: also as it stands in a JSON text, should the service quote the request.
  std::vector<std::string> secrets_of(const Call& call) const {
    std::vector<std::string> all = call.secrets;
    all.push_back(options_.api_key);
    for (std::size_t i = 0, plain = all.size(); i < plain; ++i) {
      const std::string quoted = Json(all[i]).dump(-1, ' ', false, Json::error_handler_t::replace);
      all.push_back(quoted.substr(1, quoted.size() - 2));
      if (all.back() == all[i]) all.pop_back();
    }
    return all;
  }

 private:
  struct Waiting {
    std::mutex mutex;
    std::condition_variable woken;
  };

  /// `close` wakes; of any other cancellation nobody hears but by looking.
  void sleep(std::chrono::nanoseconds span, const Cancellation& cancellation) {
    constexpr std::chrono::nanoseconds day = std::chrono::hours(24);
    constexpr std::chrono::nanoseconds look = std::chrono::milliseconds(20);
    const auto end = std::chrono::steady_clock::now() + (std::min)(span, day);
    std::unique_lock lock(waiting_->mutex);
    while (!cancellation.requested()) {
      const std::chrono::nanoseconds left = end - std::chrono::steady_clock::now();
      if (left.count() <= 0) return;
      waiting_->woken.wait_for(lock, (std::min)(left, &cancellation == &closed_ ? day : look));
    }
  }

  static constexpr std::chrono::milliseconds longest_retry_after = std::chrono::minutes(1);

  static std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
  }

  static ClientOptions checked(ClientOptions options) {
    using idem::detail::check_span;
    if (options.api_key.empty()) options.api_key = environment("ONCEONLY_API_KEY");
    if (options.api_key.empty()) {
      idem::detail::raise(
          std::invalid_argument("idem: a OnceOnly client needs ClientOptions::api_key, or ONCEONLY_API_KEY in the "
                                "environment"));
    }
    if (options.base_url.empty()) options.base_url = environment("ONCEONLY_BASE_URL");
    if (options.base_url.empty()) options.base_url = "https://api.onceonly.tech/v1";
    options.base_url = base_address(options.base_url);
    if (options.user_agent.empty()) options.user_agent = library_name();
    require_header_value(options.api_key, "ClientOptions::api_key");
    require_header_value(options.user_agent, "ClientOptions::user_agent");
    check_span(options.timeout, false, "ClientOptions::timeout");
    check_span(options.retry_backoff, true, "ClientOptions::retry_backoff");
    check_span(options.retry_max_backoff, true, "ClientOptions::retry_max_backoff");
    if (!options.transport) options.transport = CurlTransport();
    return options;
  }

  static std::string library_name() {
    return "idem/" + std::to_string(IDEM_VERSION_MAJOR) + "." + std::to_string(IDEM_VERSION_MINOR) + "." +
           std::to_string(IDEM_VERSION_PATCH);
  }

  /// A line break would end the header and begin another one. The value isn't repeated: it may be the key.
  static void require_header_value(std::string_view value, const char* what) {
    for (const char c : value) {
      const auto byte = static_cast<unsigned char>(c);
      if ((byte < ' ' && c != '\t') || byte == 0x7f)
        idem::detail::raise(std::invalid_argument(std::string("idem: ") + what + " holds a control character"));
    }
  }

  static bool worth_another(const Response& response) noexcept {
    switch (response.failure) {
      case TransportFailure::none:
        break;
      case TransportFailure::timeout:
      case TransportFailure::network:
        return true;
      default:
        return false;
    }
    return response.status == 429 || response.status == 500 || (response.status >= 502 && response.status <= 504);
  }

  Duration backoff(unsigned attempt) const noexcept {
    const std::int64_t most = options_.retry_max_backoff.nanoseconds();
    std::int64_t span = options_.retry_backoff.nanoseconds();
    for (unsigned i = 0; i < attempt && span < most; ++i) span = span > most / 2 ? most : span * 2;
    return std::chrono::nanoseconds((std::min)(span, most));
  }

  Request request_for(const Call& call) const {
    Request request;
    request.method = call.method;
    request.url = options_.base_url + call.path;
    char separator = '?';
    for (const Header& part : call.query) {
      request.url += separator;
      request.url += percent_encoded(part.name);
      request.url += '=';
      request.url += percent_encoded(part.value);
      separator = '&';
    }
    request.headers = {{"Authorization", "Bearer " + options_.api_key},
                       {"Content-Type", "application/json"},
                       {"Accept", "application/json"},
                       {"User-Agent", options_.user_agent}};
    if (!call.request_id.empty()) {
      require_header_value(call.request_id, "the request id");
      request.headers.push_back({"X-Request-Id", call.request_id});
    }
    if (call.body.has_value()) request.body = text_of_body(*call.body);
    request.timeout = (std::min)(options_.timeout, call.patience.timeout);
    request.max_response_bytes = options_.max_response_bytes;
    request.cancellation = call.patience.cancellation != nullptr ? call.patience.cancellation : &closed_;
    return request;
  }

  static std::string text_of_body(const Json& body) {
    IDEM_TRY {
      return body.dump();
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    // Its own error says which byte of which text, and nobody knows whose that is.
    idem::detail::raise(std::invalid_argument("idem: the request holds a text that isn't UTF-8"));
  }

  ClientOptions options_;
  idem::detail::StoreClock clock_;
  Cancellation closed_;
  std::unique_ptr<Waiting> waiting_ = std::make_unique<Waiting>();
  Pool pool_;
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
