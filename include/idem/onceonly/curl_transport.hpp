// CurlTransport: HTTP by libcurl, with connections that are kept and shared by all threads.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/onceonly/impl/no_broken_pipe.hpp>
#include <idem/onceonly/transport.hpp>

#include <curl/curl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // SEEK_SET
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

struct CurlTransportOptions {
  bool verify_tls = true;    ///< Certificate and host name. Off is for tests against a certificate of one's own.
  std::string ca_file = {};  ///< Certificates to trust (PEM); empty: those of the system.
  std::string proxy = {};    ///< Empty: what the environment says (https_proxy, no_proxy).
  std::size_t idle_connections = 16;  ///< How many are kept for the next request.
};

/// Sends requests by libcurl (7.62 or newer). Each thread that is sending has a connection of its own; it is kept alive
/// and handed to whoever sends next. Redirections aren't followed, other schemes than http and https not spoken.
///
/// A body is sent once: where a kept connection turns out to be closed behind it, nobody knows whether the request was
/// carried out, and libcurl is kept from sending it again. In a child of fork it answers nothing and touches none of
/// its parent's connections.
/// Thread safety: every member from any thread; destroyed when nobody sends. Movable.
class CurlTransport {
 public:
  explicit CurlTransport(CurlTransportOptions options = {}) : shared_(std::make_unique<Shared>()) {
    initialise();
    shared_->options = std::move(options);
  }
  CurlTransport(CurlTransport&&) noexcept = default;
  CurlTransport& operator=(CurlTransport&&) = delete;
  CurlTransport(const CurlTransport&) = delete;
  CurlTransport& operator=(const CurlTransport&) = delete;
  ~CurlTransport() {
    if (shared_ == nullptr) return;
    // Closing an encrypted connection writes to it, in the parent's name and with numbers that the parent uses, too.
    if (shared_->inherited()) {
      static_cast<void>(shared_.release());
      return;
    }
    const impl::NoBrokenPipe quiet;
    shared_->idle.clear();
  }

  Response send(const Request& request) {
    Response response;
    if (shared_->inherited()) {
      return failed(std::move(response), TransportFailure::cancelled,
                    "the transport belongs to the parent of this process; make one in the child");
    }
    // No thread is cancelled in the middle of libcurl, which is C and would lose its place.
    const idem::detail::NoCancellation shield;
    const impl::NoBrokenPipe quiet;
    Receiver receiver{response, request};
    Headers headers;
    Handle handle = take();  // ends before what it refers to
    if (handle == nullptr) return failed(std::move(response), TransportFailure::network, "libcurl couldn't be set up");
    bool good = true;
    for (const Header& header : request.headers) good = good && headers.add(header.name + ": " + header.value);
    // Otherwise libcurl waits for the server's leave before it sends a larger body.
    good = good && headers.add("Expect:");
    good = good && prepare(handle.get(), request, receiver, headers.list.get());
    if (!good) return failed(std::move(response), TransportFailure::network, "libcurl refused the request");
    const CURLcode code = curl_easy_perform(handle.get());
    if (code == CURLE_OK) {
      long status = 0;
      curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
      response.status = static_cast<int>(status);
      give_back(handle);
      return response;
    }
    // What was received so far says nothing.
    response = Response{};
    if (receiver.too_large)
      return failed(std::move(response), TransportFailure::too_large, "the answer is larger than max_response_bytes");
    if (code == CURLE_ABORTED_BY_CALLBACK)
      return failed(std::move(response), TransportFailure::cancelled, "the client was closed");
    // libcurl's fixed text for the code: the one with details may hold the address.
    return failed(std::move(response),
                  code == CURLE_OPERATION_TIMEDOUT ? TransportFailure::timeout : TransportFailure::network,
                  curl_easy_strerror(code));
  }

 private:
  struct CloseHandle {
    void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
  };
  using Handle = std::unique_ptr<CURL, CloseHandle>;

  struct FreeList {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
  };
  struct Headers {
    std::unique_ptr<curl_slist, FreeList> list = {};

    bool add(const std::string& line) {
      curl_slist* longer = curl_slist_append(list.get(), line.c_str());
      if (longer == nullptr) return false;
      static_cast<void>(list.release());
      list.reset(longer);
      return true;
    }
  };

  struct Receiver {
    Response& response;
    const Request& request;
    std::size_t sent = 0;
    std::size_t received = 0;
    bool too_large = false;

    bool fits(std::size_t size) noexcept {
      too_large = too_large || size > request.max_response_bytes - received;
      if (!too_large) received += size;
      return !too_large;
    }
  };

  struct Shared {
    CurlTransportOptions options = {};
    std::mutex mutex;
    std::vector<Handle> idle;
    std::uint64_t generation = idem::detail::process_generation();

    bool inherited() const noexcept { return idem::detail::process_generation() != generation; }
  };

  /// Once per process, before any thread uses libcurl by idem.
  static void initialise() {
    static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
    static_cast<void>(done);
  }

  static Response failed(Response&& response, TransportFailure failure, const char* message) {
    response.failure = failure;
    response.message = message;
    return std::move(response);
  }

  Handle take() {
    {
      const std::lock_guard lock(shared_->mutex);
      if (!shared_->idle.empty()) {
        Handle handle = std::move(shared_->idle.back());
        shared_->idle.pop_back();
        return handle;
      }
    }
    return Handle(curl_easy_init());
  }

  /// What there's no room for ends with the caller's handle, behind the lock.
  void give_back(Handle& handle) {
    // Forgets the request, with the key in it, and keeps the connection.
    curl_easy_reset(handle.get());
    const std::lock_guard lock(shared_->mutex);
    if (shared_->idle.size() < shared_->options.idle_connections) shared_->idle.push_back(std::move(handle));
  }

  bool prepare(CURL* handle, const Request& request, Receiver& receiver, curl_slist* headers) const {
    bool good = true;
    const auto set = [&](CURLoption option, auto value) {
      good = good && curl_easy_setopt(handle, option, value) == CURLE_OK;
    };
    set(CURLOPT_NOSIGNAL, 1L);  // signals and threads don't mix
    set(CURLOPT_URL, request.url.c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_SSL_VERIFYPEER, shared_->options.verify_tls ? 1L : 0L);
    set(CURLOPT_SSL_VERIFYHOST, shared_->options.verify_tls ? 2L : 0L);
    if (!shared_->options.ca_file.empty()) set(CURLOPT_CAINFO, shared_->options.ca_file.c_str());
    if (!shared_->options.proxy.empty()) set(CURLOPT_PROXY, shared_->options.proxy.c_str());
    const long limit = milliseconds(request.timeout);
    set(CURLOPT_TIMEOUT_MS, limit);
    set(CURLOPT_CONNECTTIMEOUT_MS, limit);
#if LIBCURL_VERSION_NUM >= 0x075700
    // The thread that looks a name up ends when it can; otherwise the timeout would wait for it.
    set(CURLOPT_QUICK_EXIT, 1L);
#endif
    set(CURLOPT_HTTPHEADER, headers);
    if (request.method == "GET") {
      set(CURLOPT_HTTPGET, 1L);
    } else {
      set(CURLOPT_POST, 1L);
      set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
      set(CURLOPT_READFUNCTION, &send_body);
      set(CURLOPT_READDATA, static_cast<void*>(&receiver));
      set(CURLOPT_SEEKFUNCTION, &send_again);
      set(CURLOPT_SEEKDATA, static_cast<void*>(&receiver));
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    }
    set(CURLOPT_WRITEFUNCTION, &receive_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&receiver));
    set(CURLOPT_HEADERFUNCTION, &receive_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&receiver));
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &asked_to_stop);
    set(CURLOPT_XFERINFODATA, static_cast<void*>(&receiver));
    return good;
  }

  /// At least one: zero stands for no limit.
  static long milliseconds(Duration span) noexcept {
    constexpr std::int64_t longest = 24 * 3600 * 1000;
    return static_cast<long>((std::max)(std::int64_t{1}, (std::min)(span.nanoseconds() / 1'000'000, longest)));
  }

  // Called by libcurl, through which no exception may pass: a lack of memory ends the transfer.

  static std::size_t send_body(char* to, std::size_t one, std::size_t count, void* from) noexcept {
    auto& receiver = *static_cast<Receiver*>(from);
    const std::string_view left = std::string_view(receiver.request.body).substr(receiver.sent);
    const std::size_t size = (std::min)(left.size(), one * count);
    left.copy(to, size);
    receiver.sent += size;
    return size;
  }
  /// By what libcurl would begin the body once more. The server may have it already.
  static int send_again(void* from, curl_off_t offset, int origin) noexcept {
    const bool nothing_sent = static_cast<Receiver*>(from)->sent == 0 && offset == 0 && origin == SEEK_SET;
    return nothing_sent ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
  }

  static std::size_t receive_body(char* data, std::size_t one, std::size_t count, void* to) noexcept {
    auto& receiver = *static_cast<Receiver*>(to);
    const std::size_t size = one * count;
    if (!receiver.fits(size)) return 0;
    IDEM_TRY {
      receiver.response.body.append(data, size);
      return size;
    }
    IDEM_CATCH_ALL {
      return 0;
    }
    return 0;
  }

  static std::size_t receive_header(char* data, std::size_t one, std::size_t count, void* to) noexcept {
    auto& receiver = *static_cast<Receiver*>(to);
    const std::size_t size = one * count;
    if (!receiver.fits(size)) return 0;
    IDEM_TRY {
      std::string_view line(data, size);
      // Each status line begins another answer: what came before was an interim one.
      if (line.substr(0, 5) == "HTTP/") receiver.response.headers.clear();
      const std::size_t colon = line.find(':');
      if (colon != std::string_view::npos)
        receiver.response.headers.push_back({std::string(line.substr(0, colon)), trimmed(line.substr(colon + 1))});
      return size;
    }
    IDEM_CATCH_ALL {
      return 0;
    }
    return 0;
  }

  static std::string trimmed(std::string_view text) {
    constexpr std::string_view blank = " \t\r\n";
    const std::size_t first = text.find_first_not_of(blank);
    if (first == std::string_view::npos) return {};
    return std::string(text.substr(first, text.find_last_not_of(blank) - first + 1));
  }

  static int asked_to_stop(void* from, curl_off_t, curl_off_t, curl_off_t, curl_off_t) noexcept {
    const Cancellation* cancellation = static_cast<Receiver*>(from)->request.cancellation;
    return cancellation != nullptr && cancellation->requested() ? 1 : 0;
  }

  std::unique_ptr<Shared> shared_;
};

static_assert(Transport<CurlTransport>);

}  // namespace onceonly
IDEM_END_NAMESPACE
