#pragma once
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <span>

#include "net/http.h"

// What server and client share: heads and chunked bodies out of bytes, and bytes in and out of a socket. Used by
// net/*.cpp only. Everything here is strict about where a message ends, because two readings of one stream of bytes is
// how requests are smuggled.
namespace penstock {

// TCP and unix sockets alike. Non-blocking, so that the plain calls return would_block.
using Socket = asio::generic::stream_protocol::socket;
using boost::system::error_code;

// Looks for the end of a head. `scanned` is where the last look ended, 0 at first; once done it is the head's length.
// Bad: a bare LF, or a line that is folded onto the one before.
enum class HeadScan { more, done, bad };
HeadScan scan_head(std::string_view bytes, std::size_t& scanned);

struct MessageHead {
  std::string_view method, target;  // of a request; views into the bytes that were parsed
  int status = 0;                   // of a response
  bool http11 = true;
  bool close = false;  // "Connection: close", or HTTP/1.0
  bool expect_continue = false;
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
  Headers headers;
};

// A whole head, up to and with its empty line. They throw HttpError for what is malformed or ambiguous.
MessageHead parse_request_head(std::string_view head);
MessageHead parse_response_head(std::string_view head);

// Undoes chunked coding (RFC 9112 section 7.1). Extensions and trailers are dropped.
class ChunkDecoder {
 public:
  struct Step {
    std::size_t consumed = 0;     // bytes that are done with once `piece` is
    std::string_view piece = {};  // content, a view into the bytes given
  };
  // Looks at the bytes not consumed so far. Without a piece and not done(), it needs more of them. Throws HttpError.
  Step next(std::string_view bytes);
  bool done() const { return expected_ == Expected::nothing; }

 private:
  void take_line(std::string_view line);  // without its end

  enum class Expected { size, content, end_of_content, trailer, nothing } expected_ = Expected::size;
  std::uint64_t left_ = 0;         // of a chunk's content
  std::size_t trailers_size_ = 0;  // of those that have come
};

// Bytes that arrived and nobody has taken yet.
class ReadBuffer {
 public:
  explicit ReadBuffer(std::size_t capacity) { reserve(capacity); }

  std::string_view view() const { return {data_.get() + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  std::size_t capacity() const { return capacity_; }
  void consume(std::size_t n) { begin_ += n; }

  // Where the next bytes go: all room there is, at least one byte. Moves what is unread to the front.
  std::span<char> room();
  void filled(std::size_t n) { end_ += n; }

  // Makes the capacity `capacity`, or what is unread if that is more.
  void reserve(std::size_t capacity);

 private:
  std::unique_ptr<char[]> data_;
  std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
};

// Writes what the socket takes at once. What is left stays in `buffers`: see bytes_left().
error_code write_now(Socket& socket, std::span<asio::const_buffer> buffers);
// Waits until the socket takes some more.
Task<error_code> write_some(Socket& socket, std::span<asio::const_buffer> buffers);
std::size_t bytes_left(std::span<const asio::const_buffer> buffers);

}  // namespace penstock
