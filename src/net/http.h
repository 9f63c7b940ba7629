#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/async.h"

// HTTP/1.1 messages as the rest of the tree sees them (RFC 9110, RFC 9112). No parser type leaves net/*.cpp.
namespace penstock {

// In order of arrival; names compare without regard to case.
class Headers {
 public:
  void add(std::string name, std::string value) {
    if (items_.empty()) items_.reserve(8);
    items_.emplace_back(std::move(name), std::move(value));
  }
  // The first of that name.
  std::optional<std::string_view> find(std::string_view name) const;
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<std::pair<std::string, std::string>> items_;
};

// Bytes that come piece by piece. Loop thread only.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next bytes, valid until the next call; empty at the end. Throws HttpError for what the sender did wrong and
  // ClientGone when it has left.
  virtual Task<std::string_view> next() = 0;
};

// A request that cannot be served as sent: the server answers `status` and closes the connection. Handlers may throw
// it.
class HttpError : public std::runtime_error {
 public:
  HttpError(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// The client has closed its connection, or might as well have: nobody is left to answer.
class ClientGone : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Request {
  std::string method;
  std::string path;   // before '?', not decoded
  std::string query;  // after '?', not decoded
  Headers headers;
  std::optional<std::uint64_t> body_size;  // unknown with chunked coding
  ByteSource* body = nullptr;              // never null in a handler
  // Whether the client has closed its side of the connection. A stream that may stay silent for long asks this, since
  // only a write would tell otherwise. The request lives until the stream of its response has gone.
  std::function<bool()> client_gone;
};

struct Response {
  int status = 200;
  Headers headers = {};   // without Content-Length, Connection, Date, Transfer-Encoding: the server adds them
  std::string body = {};  // used when there is no `stream`
  std::unique_ptr<ByteSource> stream = nullptr;
  std::optional<std::uint64_t> stream_size = {};  // chunked when unknown
};

// The whole body. Throws HttpError 413 when it is larger.
Task<std::string> read_all(ByteSource& body, std::size_t size_max);

// The value of one query parameter, percent-decoded ('+' is a space, a malformed escape stays as it is); nothing when
// it is absent.
std::optional<std::string> query_param(std::string_view query, std::string_view name);
// Of one that may stand there several times, all values.
std::vector<std::string> query_params(std::string_view query, std::string_view name);

// Percent-decoding of one path segment; nothing when malformed.
std::optional<std::string> percent_decode(std::string_view text);

// RFC 9110 section 14: the one range that a `bytes=` header asks of `size` bytes. `ignore` when the header is to be
// ignored (other unit, several ranges, malformed), `unsatisfiable` when the answer is 416.
struct ByteRange {
  enum class Kind { ignore, unsatisfiable, range } kind = Kind::ignore;
  std::uint64_t first = 0, length = 0;
};
ByteRange parse_range(std::string_view header, std::uint64_t size);

}  // namespace penstock
