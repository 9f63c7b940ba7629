#include "net/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/log.h"

namespace penstock {
namespace {

constexpr Millis kLookAgain{60'000};

std::string openssl_error() {
  const char* const reason = ::ERR_reason_error_string(::ERR_peek_last_error());
  ::ERR_clear_error();
  return reason ? reason : "unknown error";
}

// RFC 7301: HTTP/1.1 to whoever names protocols, and no connection to who wants only others.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";
  unsigned char* found = nullptr;
  const int outcome = ::SSL_select_next_proto(&found, chosen_size, kHttp11, sizeof kHttp11 - 1, offered, offered_size);
  *chosen = found;
  return outcome == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

void check_readable(const char* setting, const std::string& file) {
  std::FILE* const opened = std::fopen(file.c_str(), "r");
  if (!opened) throw UsageError(fmt::format("{}: cannot read {}: {}", setting, file, std::strerror(errno)));
  std::fclose(opened);
}

}  // namespace

TlsConnection::TlsConnection(SSL_CTX& context, Socket& socket)
    : ssl_(::SSL_new(&context), &::SSL_free), socket_(socket) {
  if (!ssl_ || ::SSL_set_fd(ssl_.get(), socket.native_handle()) != 1) throw std::bad_alloc();
  ::SSL_set_accept_state(ssl_.get());
}

error_code TlsConnection::judge(int result) {
  switch (::SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_NONE:
      return {};
    case SSL_ERROR_WANT_READ:
      wanted_ = Socket::wait_read;
      return asio::error::would_block;
    case SSL_ERROR_WANT_WRITE:
      wanted_ = Socket::wait_write;
      return asio::error::would_block;
    case SSL_ERROR_SYSCALL:
      failed_ = true;
      return errno == 0 ? error_code(asio::error::eof) : error_code(errno, boost::system::system_category());
    case SSL_ERROR_SSL: {
      failed_ = true;
      const unsigned long error = ::ERR_peek_last_error();
      plain_http_ = ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_HTTP_REQUEST;
      return {static_cast<int>(error), asio::error::get_ssl_category()};
    }
    default:
      return asio::error::eof;
  }
}

Task<error_code> TlsConnection::wait() {
  error_code error;
  co_await socket_.async_wait(wanted_, asio::redirect_error(asio::use_awaitable, error));
  co_return error;
}

Task<error_code> TlsConnection::handshake() {
  while (true) {
    ::ERR_clear_error();
    error_code error = judge(::SSL_do_handshake(ssl_.get()));
    if (error != asio::error::would_block) co_return error;
    error = co_await wait();
    if (error) co_return error;
  }
}

Task<std::size_t> TlsConnection::read_some(std::span<char> room, error_code& error) {
  // Waiting first gives others their turn, however fast the bytes come.
  wanted_ = Socket::wait_read;
  if (::SSL_pending(ssl_.get()) == 0) error = co_await wait();
  while (!error) {
    ::ERR_clear_error();
    std::size_t n = 0;
    error = judge(::SSL_read_ex(ssl_.get(), room.data(), room.size(), &n));
    if (!error) co_return n;
    if (error == asio::error::would_block) error = co_await wait();
  }
  co_return 0;
}

void TlsConnection::end() {
  if (!failed_) ::SSL_shutdown(ssl_.get());
}

error_code TlsConnection::write_now(std::span<asio::const_buffer> buffers) {
  for (auto& buffer : buffers) {
    while (buffer.size() > 0) {
      ::ERR_clear_error();
      std::size_t n = 0;
      const error_code error = judge(::SSL_write_ex(ssl_.get(), buffer.data(), buffer.size(), &n));
      if (error == asio::error::would_block) return {};
      if (error) return error;
      buffer += n;
    }
  }
  return {};
}

Task<error_code> TlsConnection::write_some(std::span<asio::const_buffer> buffers) {
  const error_code error = co_await wait();
  co_return error ? error : write_now(buffers);
}

TlsIdentity::TlsIdentity(std::string certificate_file, std::string key_file, Moment now)
    : certificate_file_(std::move(certificate_file)),
      key_file_(std::move(key_file)),
      read_times_(times()),
      context_(read()),
      looked_(now) {}

TlsIdentity::Context TlsIdentity::read() const {
  if (certificate_file_.empty() || key_file_.empty()) {
    throw UsageError("tls_certificate and tls_key belong together: set both, or none");
  }
  check_readable("tls_certificate", certificate_file_);
  check_readable("tls_key", key_file_);
  Context context(::SSL_CTX_new(::TLS_server_method()), &::SSL_CTX_free);
  if (!context) throw std::bad_alloc();
  SSL_CTX* const raw = context.get();
  ::SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  ::SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20");  // of TLS 1.2: with forward secrecy, and without CBC
  ::SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION);
  // An idle connection keeps no buffers, and sessions are kept by the clients.
  ::SSL_CTX_set_mode(raw,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  ::SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  ::SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  ::SSL_CTX_set_default_passwd_cb(raw, [](char*, int, int, void*) { return 0; });  // else it asks at the terminal

  ::ERR_clear_error();
  if (::SSL_CTX_use_PrivateKey_file(raw, key_file_.c_str(), SSL_FILETYPE_PEM) != 1) {
    throw UsageError(
        fmt::format("tls_key: {} holds no private key as PEM without a passphrase: {}", key_file_, openssl_error()));
  }
  if (::SSL_CTX_use_certificate_chain_file(raw, certificate_file_.c_str()) != 1) {
    throw UsageError(
        fmt::format("tls_certificate: {} holds no certificate as PEM: {}", certificate_file_, openssl_error()));
  }
  if (::SSL_CTX_check_private_key(raw) != 1) {
    ::ERR_clear_error();
    throw UsageError(fmt::format("tls_key: {} is not the key of the certificate in {}", key_file_, certificate_file_));
  }
  return context;
}

TlsIdentity::Times TlsIdentity::times() const {
  std::error_code missing;  // then the time is the least there is, and read() tells
  return {std::filesystem::last_write_time(certificate_file_, missing),
          std::filesystem::last_write_time(key_file_, missing)};
}

SSL_CTX& TlsIdentity::context(Moment now) {
  if (now - looked_ < kLookAgain) return *context_;
  looked_ = now;
  const Times found = times();
  if (found == read_times_) return *context_;
  try {
    context_ = read();
    read_times_ = found;
    log::info("TLS: the certificate of {} is used from now on", certificate_file_);
  } catch (const UsageError& e) {
    log::warn("TLS goes on with the certificate that it has: {}", e.what());
  }
  return *context_;
}

}  // namespace penstock
