#include "net/multipart.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr std::size_t kBoundarySizeMax = 70;  // RFC 2046
constexpr std::size_t kPartHeadSizeMax = 16 * 1024;
constexpr std::size_t kPreambleSizeMax = 64 * 1024;

[[noreturn]] void malformed(const std::string& why) {
  throw HttpError(400, "malformed multipart body: " + why);
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// `word; name=value; name="value"`. Quoted values are taken as they stand, without escapes.
struct Parameters {
  std::string_view word;
  std::vector<std::pair<std::string_view, std::string_view>> items;

  std::optional<std::string_view> find(std::string_view name) const {
    for (const auto& [key, value] : items) {
      if (same_word(key, name)) return value;
    }
    return std::nullopt;
  }
};

// Nothing when malformed.
std::optional<Parameters> parse_parameters(std::string_view text) {
  Parameters found;
  std::size_t end = std::min(text.find(';'), text.size());
  found.word = trim(text.substr(0, end));
  while (end < text.size()) {
    text = trim(text.substr(end + 1));
    if (text.empty()) break;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = trim(text.substr(0, equals));
    text = trim(text.substr(equals + 1));
    if (text.starts_with('"')) {
      const std::size_t quote = text.find('"', 1);
      if (quote == std::string_view::npos) return std::nullopt;
      found.items.emplace_back(name, text.substr(1, quote - 1));
      end = std::min(text.find(';', quote), text.size());
      if (!trim(text.substr(quote + 1, end - quote - 1)).empty()) return std::nullopt;
    } else {
      end = std::min(text.find(';'), text.size());
      found.items.emplace_back(name, trim(text.substr(0, end)));
    }
  }
  return found;
}

// WHATWG's encoding of what may not stand between quotes.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view code = text.substr(i, 3);
    const char c = code == "%22" ? '"' : same_word(code, "%0d") ? '\r' : same_word(code, "%0a") ? '\n' : '\0';
    if (c != '\0') i += 2;
    out += c != '\0' ? c : text[i];
  }
  return out;
}

std::string boundary_of(std::string_view content_type) {
  const auto parameters = parse_parameters(content_type);
  if (!parameters || !same_word(parameters->word, "multipart/form-data")) {
    throw HttpError(400, "the Content-Type must be multipart/form-data");
  }
  const auto boundary = parameters->find("boundary");
  if (!boundary || boundary->empty() || boundary->size() > kBoundarySizeMax) {
    throw HttpError(400, "the Content-Type has no usable boundary");
  }
  return std::string(*boundary);
}

MultipartReader::Part parse_part_head(std::string_view head) {
  while (!head.empty()) {
    const std::size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(std::min(end, head.size() - 2) + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) malformed("a part's header has no colon");
    if (!same_word(line.substr(0, colon), "content-disposition")) continue;

    const auto parameters = parse_parameters(line.substr(colon + 1));
    if (!parameters || !same_word(parameters->word, "form-data")) malformed("Content-Disposition is not form-data");
    const auto name = parameters->find("name");
    if (!name) malformed("a part has no name");
    MultipartReader::Part part{unescape(*name), std::nullopt};
    if (const auto filename = parameters->find("filename")) part.filename = unescape(*filename);
    return part;
  }
  malformed("a part has no Content-Disposition");
}

}  // namespace

// The body begins as if a line had ended before it, so that the first delimiter looks like the others.
MultipartReader::MultipartReader(std::string_view content_type, ByteSource& body)
    : body_(body), delimiter_("\r\n--" + boundary_of(content_type)), buffer_("\r\n") {}

Task<std::optional<MultipartReader::Part>> MultipartReader::next_part() {
  if (last_) co_return std::nullopt;
  if (!started_) {
    co_await skip_preamble();
  } else {
    std::string_view skipped = co_await read();
    while (!skipped.empty()) skipped = co_await read();
  }

  // At the delimiter: the rest of its line, then the head.
  used_ += delimiter_.size();
  while (buffer_.size() - used_ < 2) co_await fill("after a boundary");
  if (buffer_.compare(used_, 2, "--") == 0) {
    last_ = true;
    co_return std::nullopt;
  }
  std::size_t end;
  while ((end = buffer_.find("\r\n\r\n", used_)) == std::string::npos) {
    if (buffer_.size() - used_ >= kPartHeadSizeMax + 4) malformed("a part's head is too long");
    co_await fill("in a part's head");
  }
  if (end - used_ > kPartHeadSizeMax) malformed("a part's head is too long");
  const std::size_t line_end = buffer_.find("\r\n", used_);
  if (!trim(std::string_view(buffer_).substr(used_, line_end - used_)).empty()) malformed("text behind a boundary");
  Part part = parse_part_head(std::string_view(buffer_).substr(line_end + 2, end - line_end));
  used_ = end + 4;
  in_part_ = true;
  co_return part;
}

Task<std::string_view> MultipartReader::read() {
  while (in_part_) {
    const std::size_t end = buffer_.find(delimiter_, used_);
    const std::size_t begin = used_;
    if (end == begin) {
      in_part_ = false;
      break;
    }
    // What could be the beginning of a delimiter stays.
    const std::size_t safe =
        end != std::string::npos ? end : buffer_.size() - std::min(buffer_.size() - begin, delimiter_.size() - 1);
    if (safe > begin) {
      used_ = safe;
      co_return std::string_view(buffer_).substr(begin, safe - begin);
    }
    co_await fill("in a part");
  }
  co_return std::string_view();
}

Task<> MultipartReader::skip_preamble() {
  std::size_t skipped = 0;
  std::size_t at;
  while ((at = buffer_.find(delimiter_)) == std::string::npos) {
    const std::size_t kept = std::min(buffer_.size(), delimiter_.size() - 1);
    skipped += buffer_.size() - kept;
    used_ = buffer_.size() - kept;
    if (skipped > kPreambleSizeMax) malformed("no boundary");
    co_await fill("before the first boundary");
  }
  if (skipped + at > kPreambleSizeMax) malformed("no boundary");
  used_ = at;
  started_ = true;
}

Task<> MultipartReader::fill(const char* where) {
  buffer_.erase(0, used_);
  used_ = 0;
  const std::string_view piece = co_await body_.next();
  if (piece.empty()) malformed(std::string("it ends ") + where);
  buffer_ += piece;
}

}  // namespace penstock
