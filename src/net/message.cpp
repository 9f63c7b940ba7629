#include "net/message.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <charconv>
#include <cstring>
#include <limits>

namespace penstock {
namespace {

namespace http = boost::beast::http;
using boost::beast::iequals;
using View = boost::beast::string_view;

constexpr std::size_t kHeaderCountMax = 256;
constexpr std::size_t kChunkHeadSizeMax = 16 * 1024;  // a chunk's size line, or the trailers

std::string to_string(View text) {
  return {text.data(), text.size()};
}

// Beast's parser, with what it lets pass closed: it accepts equal lengths repeated, and any coding besides chunked.
template <bool is_request>
class HeadParser : public http::basic_parser<is_request> {
 public:
  explicit HeadParser(MessageHead& head) : head_(head) {
    this->header_limit(std::numeric_limits<std::uint32_t>::max());  // the caller has its own
    this->body_limit(boost::none);
  }

 private:
  void on_request_impl(http::verb, View method, View target, int version, error_code&) override {
    head_.method = {method.data(), method.size()};
    head_.target = {target.data(), target.size()};
    head_.http11 = version == 11;
  }

  void on_response_impl(int status, View, int version, error_code&) override {
    head_.status = status;
    head_.http11 = version == 11;
  }

  void on_field_impl(http::field field, View name, View value, error_code&) override {
    if (++count_ > kHeaderCountMax) throw HttpError(431, "too many header fields");
    switch (field) {
      case http::field::content_length:
        if (head_.content_length) throw HttpError(400, "more than one Content-Length");
        head_.content_length = content_length(value);
        break;
      case http::field::transfer_encoding:
        if (head_.chunked) throw HttpError(400, "more than one Transfer-Encoding");
        if (!iequals(value, "chunked")) throw HttpError(400, "the only transfer coding served is chunked");
        head_.chunked = true;
        break;
      case http::field::host:
        if (is_request && host_) throw HttpError(400, "more than one Host");
        host_ = true;
        break;
      case http::field::expect:
        head_.expect_continue = iequals(value, "100-continue");
        break;
      default:
        break;
    }
    head_.headers.add(to_string(name), to_string(value));
  }

  void on_header_impl(error_code&) override {
    head_.close = !head_.http11 || !this->keep_alive();
    if (head_.chunked && head_.content_length) throw HttpError(400, "both Content-Length and Transfer-Encoding");
    if (head_.chunked && !head_.http11) throw HttpError(400, "chunked coding needs HTTP/1.1");
    if (is_request && head_.http11 && !host_) throw HttpError(400, "the Host header is missing");
    if (!head_.http11) head_.expect_continue = false;
  }

  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  std::size_t on_body_impl(View, error_code&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, View, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, View, error_code&) override { return 0; }
  void on_finish_impl(error_code&) override {}

  static std::uint64_t content_length(View value) {
    std::uint64_t length = 0;
    if (value.empty() || value.size() > 18) throw HttpError(400, "Content-Length is not a length");
    for (const char c : value) {
      if (c < '0' || c > '9') throw HttpError(400, "Content-Length is not a length");
      length = length * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return length;
  }

  MessageHead& head_;
  std::size_t count_ = 0;
  bool host_ = false;
};

template <bool is_request>
MessageHead parse_head(std::string_view bytes) {
  MessageHead head;
  HeadParser<is_request> parser(head);
  error_code error;
  parser.put(asio::buffer(bytes), error);
  if (error == http::error::bad_version) throw HttpError(400, "not HTTP/1.1");
  if (error) throw HttpError(400, "malformed head: " + error.message());
  if (!parser.is_header_done()) throw HttpError(400, "malformed head");
  return head;
}

}  // namespace

HeadScan scan_head(std::string_view bytes, std::size_t& scanned) {
  while (true) {
    const std::size_t lf = bytes.find('\n', scanned);
    if (lf == std::string_view::npos) {
      scanned = bytes.size();
      return HeadScan::more;
    }
    if (lf == 0 || bytes[lf - 1] != '\r') return HeadScan::bad;
    if (lf == 1 || (lf >= 3 && bytes[lf - 2] == '\n')) {
      scanned = lf + 1;
      return HeadScan::done;
    }
    if (lf + 1 == bytes.size()) {
      scanned = lf;
      return HeadScan::more;
    }
    if (bytes[lf + 1] == ' ' || bytes[lf + 1] == '\t') return HeadScan::bad;
    scanned = lf + 1;
  }
}

MessageHead parse_request_head(std::string_view head) {
  return parse_head<true>(head);
}
MessageHead parse_response_head(std::string_view head) {
  return parse_head<false>(head);
}

namespace {

HttpError malformed_chunk(const char* what) {
  return {400, fmt::format("malformed chunked body: {}", what)};
}

// "1a", or with extensions, which mean nothing here: "1a ; name=value".
std::uint64_t chunk_size(std::string_view line) {
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), size, 16);
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  const std::size_t extension = line.find_first_not_of(" \t");
  if (error != std::errc() || (!line.empty() && (extension == std::string_view::npos || line[extension] != ';'))) {
    throw malformed_chunk("a chunk begins with its size");
  }
  return size;
}

bool is_control(char c) {
  return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == 0x7f;
}

}  // namespace

ChunkDecoder::Step ChunkDecoder::next(std::string_view bytes) {
  Step step;
  while (!done() && step.consumed < bytes.size()) {
    const std::string_view rest = bytes.substr(step.consumed);
    if (expected_ == Expected::content) {
      step.piece = rest.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, rest.size())));
      step.consumed += step.piece.size();
      left_ -= step.piece.size();
      if (left_ == 0) expected_ = Expected::end_of_content;
      break;
    }
    if (expected_ == Expected::end_of_content) {
      if (!std::string_view("\r\n").starts_with(rest.substr(0, 2))) {
        throw malformed_chunk("a chunk is longer than its size");
      }
      if (rest.size() < 2) break;
      step.consumed += 2;
      expected_ = Expected::size;
      continue;
    }
    const std::size_t size_max = kChunkHeadSizeMax - trailers_size_;
    const std::size_t lf = rest.substr(0, size_max).find('\n');
    if (lf == std::string_view::npos) {
      if (rest.size() >= size_max) throw HttpError(400, "a chunk's head is too long");
      break;
    }
    if (lf == 0 || rest[lf - 1] != '\r') throw malformed_chunk("a bare line feed");
    take_line(rest.substr(0, lf - 1));
    step.consumed += lf + 1;
  }
  return step;
}

void ChunkDecoder::take_line(std::string_view line) {
  if (std::any_of(line.begin(), line.end(), is_control)) throw malformed_chunk("a control character");
  if (expected_ == Expected::size) {
    left_ = chunk_size(line);
    expected_ = left_ > 0 ? Expected::content : Expected::trailer;
  } else if (line.empty()) {
    expected_ = Expected::nothing;
  } else {
    const std::size_t name = line.find_first_of(": \t");
    if (name == 0 || name == std::string_view::npos || line[name] != ':') {
      throw malformed_chunk("a trailer is no header");
    }
    trailers_size_ += line.size();
  }
}

std::span<char> ReadBuffer::room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (end_ == capacity_ && begin_ > 0) {
    std::memmove(data_.get(), data_.get() + begin_, size());
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == capacity_) reserve(2 * capacity_);
  return {data_.get() + end_, capacity_ - end_};
}

void ReadBuffer::reserve(std::size_t capacity) {
  capacity = std::max(capacity, size());
  if (capacity == capacity_) return;
  auto data = std::make_unique_for_overwrite<char[]>(capacity);
  if (!empty()) std::memcpy(data.get(), data_.get() + begin_, size());
  end_ = size();
  begin_ = 0;
  data_ = std::move(data);
  capacity_ = capacity;
}

namespace {

void consume(std::span<asio::const_buffer> buffers, std::size_t n) {
  for (auto& buffer : buffers) {
    const std::size_t taken = std::min(n, buffer.size());
    buffer += taken;
    n -= taken;
  }
}

}  // namespace

error_code write_now(Socket& socket, std::span<asio::const_buffer> buffers) {
  error_code error;
  consume(buffers, socket.write_some(buffers, error));
  if (error == asio::error::would_block) error = {};
  return error;
}

Task<error_code> write_some(Socket& socket, std::span<asio::const_buffer> buffers) {
  error_code error;
  consume(buffers, co_await socket.async_write_some(buffers, asio::redirect_error(asio::use_awaitable, error)));
  co_return error;
}

std::size_t bytes_left(std::span<const asio::const_buffer> buffers) {
  std::size_t sum = 0;
  for (const auto& buffer : buffers) sum += buffer.size();
  return sum;
}

}  // namespace penstock
