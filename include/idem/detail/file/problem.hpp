// What went wrong in a call to the operating system, kept without allocating and told in words only when asked.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/error_text.hpp>

#include <cerrno>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Why something in the store's directory could not be done; empty where it was done.
struct Problem {
  const char* what = nullptr;  // a literal that goes on after the path of a file: "cannot be opened"
  int error = 0;               // errno; 0 where idem itself refuses
  const char* file = nullptr;  // a literal: which file of the directory, where that is known

  explicit operator bool() const noexcept { return what != nullptr; }
};

struct ErrorText {
  int error;
  const char* name;
  const char* text;
  const char* advice;  // null where the error says all there is to say
};

inline const ErrorText* find_error_text(int error) noexcept {
  static constexpr ErrorText texts[] = {
      {EACCES, "EACCES", "Permission denied", "run as the owner of the directory"},
      {EDQUOT, "EDQUOT", "Disk quota exceeded", "free space or raise the quota"},
      {EEXIST, "EEXIST", "File exists", nullptr},
      {EFBIG, "EFBIG", "File too large", "raise the limit on file size (ulimit -f, RLIMIT_FSIZE)"},
      {EINVAL, "EINVAL", "Invalid argument", nullptr},
      {EIO, "EIO", "Input/output error", "the disk has failed: see the kernel's log"},
      {EISDIR, "EISDIR", "Is a directory", nullptr},
      {ELOOP, "ELOOP", "Too many levels of symbolic links", nullptr},
      {EMFILE, "EMFILE", "Too many open files", "raise the limit on open files (ulimit -n, RLIMIT_NOFILE)"},
      {ENAMETOOLONG, "ENAMETOOLONG", "File name too long", nullptr},
      {ENFILE, "ENFILE", "Too many open files in system", "raise the system's limit on open files (fs.file-max)"},
      {ENODEV, "ENODEV", "No such device", nullptr},
      {ENOENT, "ENOENT", "No such file or directory", nullptr},
      {ENOLCK, "ENOLCK", "No locks available", "the file system has no locks left, or no locks at all"},
      {ENOMEM, "ENOMEM", "Cannot allocate memory", nullptr},
      {ENOSPC, "ENOSPC", "No space left on device", "free space on its file system"},
      {ENOTDIR, "ENOTDIR", "Not a directory", nullptr},
      {ENXIO, "ENXIO", "No such device or address", nullptr},
      {EPERM, "EPERM", "Operation not permitted", nullptr},
      {EROFS, "EROFS", "Read-only file system", "mount it writable"},
  };
  for (const ErrorText& text : texts) {
    if (text.error == error) return &text;
  }
  return nullptr;
}

/// "FileStore /dir: cannot be written: No space left on device (ENOSPC); free space on its file system". `path` is that
/// of the directory. Throws nothing but what an allocation throws.
inline std::string describe(const Problem& problem, std::string_view path) {
  std::string text = "FileStore ";
  text += path;
  if (problem.file != nullptr) {
    if (path.empty() || path.back() != '/') text += '/';
    text += problem.file;
  }
  text += ": ";
  text += problem.what == nullptr ? "there is no problem" : problem.what;
  if (problem.error == 0) return text;
  text += ": ";
  if (const ErrorText* known = find_error_text(problem.error)) {
    text += known->text;
    text += " (";
    text += known->name;
    text += ')';
    if (known->advice != nullptr) {
      text += "; ";
      text += known->advice;
    }
    return text;
  }
  char buffer[128] = {};
  text += error_text(problem.error, buffer);
  text += " (errno ";
  text += std::to_string(problem.error);
  text += ')';
  return text;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
