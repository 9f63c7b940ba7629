#pragma once
#include <openssl/ssl.h>

#include <array>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "net/message.h"

// TLS of the server's side. Used by http_server.cpp only. The process must ignore SIGPIPE.
namespace penstock {

// One connection: OpenSSL straight on its non-blocking socket, which must outlive this. After an error it can only be
// ended and destroyed.
class TlsConnection {
 public:
  TlsConnection(SSL_CTX& context, Socket& socket);

  Task<error_code> handshake();
  // Whether the handshake failed since the far side speaks HTTP without TLS.
  bool is_plain_http() const { return plain_http_; }

  // At least one byte, or an error: eof when the far side has said that no more follows.
  Task<std::size_t> read_some(std::span<char> room, error_code& error);
  // As the functions of those names in message.h.
  error_code write_now(std::span<asio::const_buffer> buffers);
  Task<error_code> write_some(std::span<asio::const_buffer> buffers);

  // Says that no more follows, so that the far side can tell an end from a break; nothing after an error. Waits for
  // nothing.
  void end();

 private:
  // What the last call, which returned `result`, needs before it can be repeated: nothing when it has failed.
  error_code judge(int result);
  Task<error_code> wait();

  std::unique_ptr<SSL, decltype(&::SSL_free)> ssl_;
  Socket& socket_;
  Socket::wait_type wanted_ = Socket::wait_read;
  bool plain_http_ = false, failed_ = false;
};

// The certificate of a server and its key, out of PEM files: the certificate, behind it those that vouch for it; the
// key without a passphrase. The files are looked at again a minute after the last look, and read when they have
// changed.
class TlsIdentity {
 public:
  // Throws UsageError, one line that names the setting and the file.
  TlsIdentity(std::string certificate_file, std::string key_file, Moment now);

  // For a new connection. What cannot be read leaves the old certificate in use, and is logged.
  SSL_CTX& context(Moment now);

 private:
  using Times = std::array<std::filesystem::file_time_type, 2>;
  using Context = std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)>;
  Context read() const;
  Times times() const;

  const std::string certificate_file_, key_file_;
  Times read_times_;
  Context context_;
  Moment looked_;
};

}  // namespace penstock
