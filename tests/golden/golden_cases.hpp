// The golden vectors: calls whose keys may never change. A changed key is a second payment.
//
// Each case has a name and a text: the digest of a key, a derived key, a fingerprint or the bytes of a record, as
// keys.txt holds them. The texts are the same with every compiler, standard library, word size and byte order.
#pragma once

#include <string>
#include <vector>

namespace golden {

struct Vector {
  std::string name;
  std::string text;
  friend bool operator==(const Vector&, const Vector&) = default;
};

std::vector<Vector> all_vectors();

/// keys.txt beside this file.
std::string vectors_file();

/// The vectors in a file: a name, a space, a text per line. Empty where it can't be read.
std::vector<Vector> read_vectors(const std::string& file);

}  // namespace golden
