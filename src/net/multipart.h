#pragma once
#include "net/http.h"

namespace penstock {

// Reads a multipart/form-data body (RFC 7578) part by part, with bounded memory and whatever way the body is cut into
// pieces. Throws HttpError 400 for a malformed body. Usage: while (auto part = co_await reader.next_part()) { while
// (!(bytes = co_await reader.read()).empty()) … }.
class MultipartReader {
 public:
  struct Part {
    std::string name;
    std::optional<std::string> filename;  // with WHATWG's %22, %0D and %0A undone, nothing else
  };

  // The boundary out of a Content-Type; throws HttpError 400 when it is missing or the type is another.
  MultipartReader(std::string_view content_type, ByteSource& body);

  // Skips what is left of the current part. Nothing after the last one.
  Task<std::optional<Part>> next_part();

  // The current part's next bytes, valid until the next call; empty at its end.
  Task<std::string_view> read();

 private:
  Task<> skip_preamble();
  // Drops what is used and appends the body's next piece, or throws when there is none.
  Task<> fill(const char* where);

  ByteSource& body_;
  std::string delimiter_;  // "\r\n--boundary"
  std::string buffer_;
  std::size_t used_ = 0;  // bytes of buffer_ already handed out
  bool started_ = false, in_part_ = false, last_ = false;
};

}  // namespace penstock
