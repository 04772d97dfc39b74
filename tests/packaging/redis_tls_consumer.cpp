// What a user of idem's store in Redis with TLS needs to be found, included and linked.
#include <idem/detail/redis/tls.hpp>

#include <cstdio>

int main() {
  idem::detail::redis::Endpoint endpoint;
  endpoint.host.clear();
  idem::detail::redis::Reason why;
  idem::detail::redis::Encryption* const none = idem::detail::redis::make_encryption(endpoint, {}, why);
  std::printf("%s\n", why.c_str());
  // Only OpenSSL gets as far as to miss the host.
  return none == nullptr && why.view().find("a host") != std::string_view::npos ? 0 : 1;
}
