#pragma once
#include <functional>

#include "base/error.h"
#include "net/http.h"

namespace penstock {

// Where requests go. `http://host:port/base`, `https://…`, or `unix:/path/to.sock`.
struct Endpoint {
  bool tls = false;
  std::string host;  // also the Host header
  std::string port;
  std::string unix_path;  // non-empty: a unix socket, and host is "localhost"
  std::string base_path;  // "" or "/v1", without a final slash

  static Result<Endpoint> parse(std::string_view url);
};

struct ClientRequest {
  std::string_view method;
  std::string_view target;   // path and query, put behind the endpoint's base path
  std::string_view headers;  // ready lines, each ended by "\r\n"; Host and Content-Length are added
  std::string_view body;
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
    connect,    // refused, unreachable, name unknown, TLS refused, or greeted and not the one that is meant
    reset,      // closed before the first byte of the response
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
  };

  HttpClient(asio::io_context& loop, Clock& clock, Endpoint endpoint, Options options);
  ~HttpClient();

  // One request, one response, within `timeout` from now. A kept connection that turns out to be closed before it
  // brought a byte is replaced by a new one once. Cancelling the coroutine closes the connection, which tells the far
  // side. The request's views, and the greeting if there is one, must stay valid until the call returns.
  Task<boost::system::result<ClientResponse, SendFailure>> send(const ClientRequest& request, Millis timeout,
                                                                const Greeting* greeting = nullptr);

  // Closes kept connections.
  void close_idle();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
