#pragma once
#include <functional>

#include "net/http.h"

namespace penstock {

// An HTTP/1.1 server on one loop thread: keep-alive, pipelining in order, chunked bodies both ways,
// `Expect: 100-continue` answered when the handler first reads the body, HEAD. Malformed requests are answered 4xx,
// then closed. Every connection has deadlines, checked by one sweep. TLS 1.2 or 1.3 when it is given a certificate.
class HttpServer {
 public:
  using Handler = std::function<Task<Response>(Request&)>;
  // The answer to a request that the server or a handler refuses by HttpError.
  using Refusal = std::function<Response(const HttpError&)>;

  struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;                // 0: any free one, see port()
    std::size_t connections_max = 10'000;  // at a time
    std::size_t header_size_max = 32 * 1024;
    std::string tls_certificate = {}, tls_key = {};  // PEM files, read again when they have changed; empty: without TLS
    Millis header_timeout{30'000};    // from a request's first byte to the end of its head; and for TLS's handshake
    Millis idle_timeout{120'000};     // between requests
    Millis progress_timeout{60'000};  // for the next 16 KB of a body, or for one write
  };

  // `handler` runs once a request on the loop thread; what it leaves unread of the body is read and dropped, up to 1
  // MB, else the connection closes. An exception other than HttpError that leaves it ends the connection: the API's
  // route boundary lets none out. Throws UsageError for files of TLS that cannot be used. Destroy the server only when
  // run() and stop() have ended, or when its loop no longer runs.
  HttpServer(asio::io_context& loop, Clock& clock, Options options, Handler handler, Refusal refusal = in_plain_words);
  ~HttpServer();

  // Binds and listens; throws UsageError naming the address when that fails.
  void listen();
  std::uint16_t port() const;

  // Accepts until cancelled or stopped. At the limit of connections or file descriptors it waits for one to be free,
  // and clients wait in the kernel's queue.
  Task<> run();

  // Stops accepting and closes idle connections; requests under way may end until `patience` is over.
  Task<> stop(Millis patience);

  // A Refusal: its text, and nothing else.
  static Response in_plain_words(const HttpError& error);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
