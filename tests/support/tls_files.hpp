// Certificates of a test's own, made by the openssl program. No doctest here: what goes wrong is thrown.
#pragma once

#include "directory.hpp"

#include <cerrno>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace support {

/// A directory with authorities and what they have signed. Each NAME is the files NAME.pem and NAME.key.
class TlsFiles {
 public:
  TlsFiles() {
    authority("authority");
    authority("stranger");  // whom nobody here trusts
    certificate("server", "IP:127.0.0.1,DNS:localhost");
    certificate("elsewhere", "IP:127.0.0.2,DNS:elsewhere.example,DNS:127.0.0.1");
    certificate("expired", "IP:127.0.0.1,DNS:localhost", "-1");
    certificate("named", "DNS:localhost");
    certificate("client", "DNS:client.example");
    run({"pkey", "-in", key("client"), "-aes128", "-passout", "pass:s3cret", "-out", key("locked")});
  }

  std::string pem(const std::string& name) const { return directory_ / (name + ".pem"); }
  std::string key(const std::string& name) const { return directory_ / (name + ".key"); }
  std::string operator/(const std::string& name) const { return directory_ / name; }

  /// Of a redis-server that shows this certificate, and asks for its clients'.
  std::vector<std::string> server_arguments(const std::string& name, const std::string& clients = "no") const {
    return {"--tls-cert-file", pem(name), "--tls-key-file", key(name), "--tls-ca-cert-file", pem("authority"),
            "--tls-auth-clients", clients};
  }

 private:
  std::vector<std::string> request(const std::string& name) const {
    return {"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + name,
            "-keyout", key(name)};
  }

  void authority(const std::string& name) const {
    std::vector<std::string> words = request(name);
    for (const std::string& word : {std::string("-x509"), std::string("-days"), std::string("2"), std::string("-out"),
                                    pem(name)}) {
      words.push_back(word);
    }
    run(words);
  }

  void certificate(const std::string& name, const std::string& names, const std::string& days = "2") const {
    std::ofstream(directory_ / "names") << "subjectAltName=" << names << "\n";
    std::vector<std::string> words = request(name);
    words.push_back("-out");
    words.push_back(directory_ / "request");
    run(words);
    run({"x509", "-req", "-in", directory_ / "request", "-CA", pem("authority"), "-CAkey", key("authority"),
         "-CAserial", directory_ / "serial", "-CAcreateserial", "-days", days, "-extfile", directory_ / "names", "-out",
         pem(name)});
  }

  void run(const std::vector<std::string>& words) const {
    std::string command = "openssl";
    std::vector<char*> arguments{command.data()};
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const std::string log = directory_ / "log";
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error("fork failed");
    if (pid == 0) {
      ::close(0);
      ::close(1);
      ::close(2);
      ::open("/dev/null", O_RDONLY);
      ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      ::dup(1);
      ::execvp(arguments[0], arguments.data());
      ::_exit(127);
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (status == 0) return;
    std::ifstream said(log);
    const std::string text{std::istreambuf_iterator<char>(said), std::istreambuf_iterator<char>()};
    throw std::runtime_error("openssl " + words.front() + " failed: " + text);
  }

  Directory directory_;
};

/// For all tests of a program.
inline const TlsFiles& tls_files() {
  static const TlsFiles made;
  return made;
}

}  // namespace support
