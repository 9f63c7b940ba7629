#include "blob/xml.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <stdexcept>

namespace penstock {
namespace {

constexpr int kDepthMax = 16;

[[noreturn]] void fail(const char* why) {
  throw std::runtime_error(std::string("this is not the XML that S3 sends: ") + why);
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    tail(12), tail(6), tail(0);
  }
}

class Parser {
 public:
  explicit Parser(std::string_view document) : rest_(document) {}

  XmlElement document() {
    if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);
    skip_spaces();  // S3 may send some to keep the connection
    if (rest_.starts_with("<?xml")) skip_past("?>");
    skip_between();
    XmlElement root = element(0);
    skip_between();
    if (!rest_.empty()) fail("something follows the root element");
    return root;
  }

 private:
  // At its "<".
  XmlElement element(int depth) {
    if (depth == kDepthMax) fail("it is nested too deep");
    expect("<");
    XmlElement made;
    made.name = name();
    while (true) {
      const bool space = skip_spaces();
      if (take("/>")) return made;
      if (take(">")) break;
      if (!space) fail("a tag is malformed");
      attribute();
    }
    while (true) {
      text(made.text);
      if (take("</")) break;
      if (rest_.starts_with("<!--")) {
        comment();
      } else {
        made.children.push_back(element(depth + 1));
      }
    }
    if (name() != made.name) fail("an end tag has another name");
    skip_spaces();
    expect(">");
    return made;
  }

  std::string_view name() {
    const auto is_part = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
             c == '.' || c == ':';
    };
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_part);
    const auto found = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
    if (found.empty() || (found[0] >= '0' && found[0] <= '9') || found[0] == '-' || found[0] == '.') {
      fail("a name is malformed");
    }
    rest_.remove_prefix(found.size());
    return found;
  }

  void attribute() {
    name();
    skip_spaces();
    expect("=");
    skip_spaces();
    const std::string_view quote = rest_.substr(0, 1);
    if (quote != "\"" && quote != "'") fail("an attribute has no quotes");
    rest_.remove_prefix(1);
    const std::size_t end = rest_.find(quote[0]);
    if (end == std::string_view::npos || rest_.substr(0, end).find('<') != std::string_view::npos) {
      fail("an attribute has no end");
    }
    rest_.remove_prefix(end + 1);
  }

  // Up to the next "<", which must come.
  void text(std::string& out) {
    while (true) {
      const std::size_t end = rest_.find_first_of("<&");
      if (end == std::string_view::npos) fail("it ends early");
      out += rest_.substr(0, end);
      rest_.remove_prefix(end);
      if (rest_[0] == '<') return;
      entity(out);
    }
  }

  // At its "&".
  void entity(std::string& out) {
    const std::size_t end = rest_.substr(0, 12).find(';');
    if (end == std::string_view::npos) fail("an entity has no end");
    std::string_view body = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    if (body == "lt") {
      out += '<';
    } else if (body == "gt") {
      out += '>';
    } else if (body == "amp") {
      out += '&';
    } else if (body == "quot") {
      out += '"';
    } else if (body == "apos") {
      out += '\'';
    } else if (body.starts_with('#')) {
      body.remove_prefix(1);
      const int base = body.starts_with('x') ? 16 : 10;
      if (base == 16) body.remove_prefix(1);
      std::uint32_t code = 0;
      const auto [last, error] = std::from_chars(body.data(), body.data() + body.size(), code, base);
      const bool surrogate = code >= 0xd800 && code < 0xe000;
      if (error != std::errc() || last != body.data() + body.size() || code == 0 || surrogate || code > 0x10ffff) {
        fail("an entity is no character");
      }
      append_utf8(out, code);
    } else {
      fail("an entity is unknown");
    }
  }

  void comment() {
    expect("<!--");
    skip_past("-->");
  }

  // Outside of the root element.
  void skip_between() {
    while (true) {
      skip_spaces();
      if (!rest_.starts_with("<!--")) return;
      comment();
    }
  }

  void skip_past(std::string_view end) {
    const std::size_t at = rest_.find(end);
    if (at == std::string_view::npos) fail("it ends early");
    rest_.remove_prefix(at + end.size());
  }

  bool skip_spaces() {
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_space);
    const auto count = static_cast<std::size_t>(end - rest_.begin());
    rest_.remove_prefix(count);
    return count > 0;
  }

  bool take(std::string_view wanted) {
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(wanted.size());
    return true;
  }

  void expect(std::string_view wanted) {
    if (!take(wanted)) fail("a tag is malformed");
  }

  std::string_view rest_;
};

}  // namespace

const XmlElement* XmlElement::child(std::string_view wanted) const {
  const auto found = std::find_if(children.begin(), children.end(), [&](const auto& c) { return c.name == wanted; });
  return found == children.end() ? nullptr : &*found;
}

std::string_view XmlElement::value(std::string_view wanted) const {
  const XmlElement* const found = child(wanted);
  return found ? std::string_view(found->text) : std::string_view();
}

XmlElement parse_xml(std::string_view document) {
  return Parser(document).document();
}

}  // namespace penstock
