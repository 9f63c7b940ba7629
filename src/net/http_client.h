#pragma once
#include <boost/asio/ip/address.hpp>
#include <functional>

#include "net/endpoint.h"
#include "net/http.h"

namespace penstock {

struct ClientRequest {
  std::string_view method;
  std::string_view target;   // path and query, put behind the endpoint's base path
  std::string_view headers;  // ready lines, each ended by "\r\n"; Host and Content-Length are added
  std::string_view body;
  // In place of `body`, when it is set: it brings `stream_size` bytes. What it throws leaves send(), and so does a
  // runtime_error when it brings more or fewer.
  ByteSource* stream = nullptr;
  std::uint64_t stream_size = 0;
  // Where it is set, it is given the body of a response with a status below 300, piece by piece as that comes, and the
  // response has none; the time limit is from each piece to the next. What it throws leaves send().
  std::function<void(std::string_view piece)> on_piece = {};
};

struct ClientResponse {
  int status = 0;
  Headers headers;
  std::string body;
};

// What is asked first on each new connection, since another process may answer there than before.
struct Greeting {
  ClientRequest request;
  std::function<bool(const ClientResponse&)> accept;  // whether it is the one that is meant
};

// Why there is no response. What it says about the request: `connect` and `reset`: the far side may never have seen it;
// the others: it has, unless a greeting came to no end.
struct SendFailure {
  enum class Kind {
    connect,  // refused, unreachable, name unknown, not admitted, TLS refused, or greeted and not the one that is meant
    reset,    // closed before the first byte of the response
    truncated,  // closed in the middle of the response
    malformed,  // not HTTP
    timeout,
    too_large
  } kind;
  std::string message;
};

// Called by value() on a failed send: the caller had promised a response.
[[noreturn]] inline void throw_exception_from_error(const SendFailure& failure, const boost::source_location&) {
  throw std::runtime_error(failure.message);
}

// A pool of keep-alive connections to one endpoint. Loop thread only. As many requests at a time as callers make: the
// callers limit themselves. Destroy it only when no send() is under way, or when its loop no longer runs.
class HttpClient {
 public:
  struct Options {
    Millis connect_timeout{5'000};
    std::size_t body_size_max = 64 << 20;
    std::size_t idle_connections_max = 256;
    // Which addresses may be connected to; empty: all, and unix sockets. A name is looked up once for each connection,
    // and when only one of its addresses is not admitted, none is tried. Where this is asked the name is a client's,
    // and looked up apart from others (net/lookup.h).
    std::function<bool(const asio::ip::address&)> admit = {};
    // The status is what the caller wants: a body that is too large, or breaks off, is left at what there is of it.
    bool status_suffices = false;
    // PEM. The authorities that are trusted, in place of the machine's. The constructor throws
    // boost::system::system_error where it cannot be read.
    std::string ca_file = {};
  };

  HttpClient(asio::io_context& loop, Clock& clock, Endpoint endpoint, Options options);
  ~HttpClient();

  // One request, one response, within `timeout` from now. A kept connection that turns out to be closed before it
  // brought a byte is replaced by a new one once; a stream is sent on a new one, as it can be read only once.
  // Redirects are responses like others. Cancelling the coroutine closes the connection, which tells the far side. What
  // the request and the greeting refer to must stay valid until the call returns.
  Task<boost::system::result<ClientResponse, SendFailure>> send(const ClientRequest& request, Millis timeout,
                                                                const Greeting* greeting = nullptr);

  // Closes kept connections.
  void close_idle();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
