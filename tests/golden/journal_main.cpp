// Compares the golden journals with what this build makes. Says nothing and returns 0 when they are the same.
//
// journal [--write]: writes the file of a case that has none yet; a file that is there is never changed by it, since it
// is what users' disks hold.
#include "journal_cases.hpp"

#include <cstdio>
#include <fstream>
#include <string>

int main(int argc, char** argv) {
  const bool write = argc > 1 && std::string(argv[1]) == "--write";
  int differences = 0;
  for (const golden_journal::Case& made : golden_journal::all_cases()) {
    const std::string text = golden_journal::as_text(made.bytes);
    const std::string kept = golden_journal::kept_text(made.name);
    if (kept == text) continue;
    if (kept.empty() && write) {
      std::ofstream out(golden_journal::file_of(made.name));
      out << text;
      out.flush();
      if (out) continue;
    }
    std::printf("%s: is\n%swas\n%s", made.name.c_str(), text.c_str(), kept.c_str());
    ++differences;
  }
  return differences == 0 ? 0 : 1;
}
