// Compares the golden vectors with what this build makes. Says nothing and returns 0 when all hold.
//
// golden [--write] [FILE]: FILE is keys.txt beside the source unless given. `--write` adds new cases; a line that is
// there already is never changed by it, since a key that changes makes calls run twice.
#include "golden_cases.hpp"

#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  bool write = false;
  std::string file = golden::vectors_file();
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--write") {
      write = true;
    } else {
      file = argument;
    }
  }

  const std::vector<golden::Vector> kept = golden::read_vectors(file);
  const std::vector<golden::Vector> made = golden::all_vectors();
  std::map<std::string, std::string> by_name;
  for (const golden::Vector& vector : kept) by_name.emplace(vector.name, vector.text);

  int differences = 0;
  std::map<std::string, std::string> seen;
  std::string added;
  for (const golden::Vector& vector : made) {
    if (!seen.emplace(vector.name, vector.text).second) {
      std::printf("%s: two cases have this name\n", vector.name.c_str());
      ++differences;
    }
    const auto found = by_name.find(vector.name);
    if (found == by_name.end()) {
      added += vector.name + ' ' + vector.text + '\n';
    } else if (found->second != vector.text) {
      std::printf("%s: is %s, was %s\n", vector.name.c_str(), vector.text.c_str(), found->second.c_str());
      ++differences;
    }
  }
  for (const golden::Vector& vector : kept) {
    if (seen.count(vector.name) == 0) {
      std::printf("%s: has a line, but no case\n", vector.name.c_str());
      ++differences;
    }
  }
  if (!added.empty()) {
    if (write) {
      std::ofstream out(file, std::ios::app);
      out << added;
      out.flush();
      if (!out) {
        std::printf("%s: can't be written\n", file.c_str());
        ++differences;
      }
    } else {
      std::printf("these cases have no line in %s:\n%s", file.c_str(), added.c_str());
      ++differences;
    }
  }
  return differences == 0 ? 0 : 1;
}
