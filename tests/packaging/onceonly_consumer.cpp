// What a user of the OnceOnly client needs, as far as it goes without a service.
#include <idem/onceonly/curl_transport.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstdio>

int main() {
  idem::onceonly::CurlTransport transport;
  idem::onceonly::Request request;
  request.method = "GET";
  request.url = "ftp://127.0.0.1/";  // refused before anything is sent
  const bool refused = transport.send(request).failure == idem::onceonly::TransportFailure::network;
  std::printf("%s\n", refused ? "linked" : "spoke ftp");
  return refused ? 0 : 1;
}
