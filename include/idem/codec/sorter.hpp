// Puts the entries of a set or map, already encoded, in the order of their bytes.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>

#include <idem/codec/writer.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

inline int compare_bytes(const std::uint8_t* a, std::size_t a_size, const std::uint8_t* b,
                         std::size_t b_size) noexcept {
  const int order = std::memcmp(a, b, a_size < b_size ? a_size : b_size);
  if (order != 0) return order;
  return a_size < b_size ? -1 : a_size > b_size ? 1 : 0;
}

/// Used by one thread: begin_entry() before each of `count` entries is written, finish() after the last.
struct Sorter {
  struct Entry {
    std::size_t begin;
    std::size_t size;
  };

  Sorter(Writer& writer, std::size_t count) : out_(writer.out_), count_(count) {
    if (count > inline_entries) entries_ = static_cast<Entry*>(::operator new(count * sizeof(Entry)));
  }
  Sorter(const Sorter&) = delete;
  Sorter& operator=(const Sorter&) = delete;
  ~Sorter() {
    if (entries_ != inline_) ::operator delete(entries_);
  }

  void begin_entry() noexcept {
    end_entry();
    if (used_ < count_) entries_[used_++] = {out_.size(), 0};
  }

  void finish() {
    end_entry();
    bool sorted = true;
    for (std::size_t i = 1; i < used_ && sorted; ++i) sorted = !before(entries_[i], entries_[i - 1]);
    if (!sorted) rearrange();
  }

 private:
  static constexpr std::size_t inline_entries = 8;

  void end_entry() noexcept {
    if (used_ != 0) entries_[used_ - 1].size = out_.size() - entries_[used_ - 1].begin;
  }

  bool before(const Entry& a, const Entry& b) const noexcept {
    return compare_bytes(out_.data() + a.begin, a.size, out_.data() + b.begin, b.size) < 0;
  }

  // Heapsort by hand: <algorithm> costs more to include than all of this header, and hostile orders cost nothing extra.
  IDEM_NOINLINE void rearrange() {
    const std::size_t begin = entries_[0].begin;
    const Bytes unsorted(out_.data() + begin, out_.size() - begin);
    for (std::size_t i = used_ / 2; i > 0; --i) sift_down(i - 1, used_);
    for (std::size_t i = used_; i > 1; --i) {
      const Entry last = entries_[i - 1];
      entries_[i - 1] = entries_[0];
      entries_[0] = last;
      sift_down(0, i - 1);
    }
    out_.truncate(begin);
    for (std::size_t i = 0; i < used_; ++i) {
      out_.append(unsorted.data() + (entries_[i].begin - begin), entries_[i].size);
    }
  }

  void sift_down(std::size_t root, std::size_t size) noexcept {
    while (true) {
      std::size_t child = root * 2 + 1;
      if (child >= size) return;
      if (child + 1 < size && before(entries_[child], entries_[child + 1])) ++child;
      if (!before(entries_[root], entries_[child])) return;
      const Entry moved = entries_[root];
      entries_[root] = entries_[child];
      entries_[child] = moved;
      root = child;
    }
  }

  Bytes& out_;
  std::size_t count_;
  std::size_t used_ = 0;
  Entry inline_[inline_entries];
  Entry* entries_ = inline_;
};

}  // namespace detail
IDEM_END_NAMESPACE
