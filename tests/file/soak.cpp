// FLK-15: processes that are killed and stopped at random share a FileStore; no effect is repeated that nobody chose to
// repeat, and no outcome is lost or changed.
//
//   soak [--seconds N] [--processes N] [--seed N] [--directory PATH]
//
// Exit code: 0 where all is well, 1 where not, 2 for a bad command line. With a failure the directory is kept and named.
#include "support/directory.hpp"
#include "support/file_soak.hpp"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

int main(int count, char** arguments) {
  file_soak::Settings settings;
  settings.seconds = 120;
  std::string above;
  for (int i = 1; i < count; i += 2) {
    const std::string name = arguments[i];
    const char* const value = i + 1 < count ? arguments[i + 1] : nullptr;
    if (value == nullptr) {
      std::fprintf(stderr, "soak: %s needs a value\n", name.c_str());
      return 2;
    }
    if (name == "--seconds") {
      settings.seconds = std::atof(value);
    } else if (name == "--processes") {
      settings.processes = static_cast<std::size_t>(std::atol(value));
    } else if (name == "--seed") {
      settings.seed = static_cast<std::uint64_t>(std::atoll(value));
    } else if (name == "--directory") {
      above = value;
    } else {
      std::fprintf(stderr, "soak: unknown option %s\n", name.c_str());
      return 2;
    }
  }
  if (settings.processes == 0 || settings.seconds <= 0) return 2;
  std::optional<support::Directory> place;
  if (above.empty()) {
    place.emplace();
  } else {
    place.emplace(above);
  }
  settings.path = place->path();
  const file_soak::Report report = file_soak::Soak(settings).run();
  std::printf("%lld keys, %lld effects, %lld chosen again, %lld recovered, %lld replayed, %lld kills, %lld stops\n",
              static_cast<long long>(report.keys), static_cast<long long>(report.effects),
              static_cast<long long>(report.reruns), static_cast<long long>(report.recovered),
              static_cast<long long>(report.replayed), static_cast<long long>(report.kills),
              static_cast<long long>(report.stops));
  for (const std::string& failure : report.failures) std::printf("FAILED: %s\n", failure.c_str());
  if (report.good()) return 0;
  std::printf("the directory is kept: %s\n", settings.path.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}
