// onceonly_server [PORT]: the OnceOnly service on 127.0.0.1, for tests and examples. Prints its port when it is ready and
// serves until SIGINT or SIGTERM comes.
#include "server.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

int main(int count, char** arguments) {
  char* end = nullptr;
  const long port = count > 1 ? std::strtol(arguments[1], &end, 10) : 0;
  if (count > 2 || (count > 1 && (*end != '\0' || port < 0 || port > 65535))) {
    std::fprintf(stderr, "usage: %s [PORT]\n", arguments[0]);
    return 2;
  }
  try {
    // Blocked before the server's threads are made, which inherit it: this thread alone takes the signals.
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    const onceonly_server::Server server(static_cast<int>(port));
    std::printf("%d\n", server.port());
    std::fflush(stdout);
    int signal = 0;
    sigwait(&ends, &signal);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
