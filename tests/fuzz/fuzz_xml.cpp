// A document of S3. Input: the document.
#include <stdexcept>

#include "blob/xml.h"
#include "fuzz.h"

namespace penstock {
namespace {

void write(const XmlElement& element, std::string& out) {
  out += '<' + element.name + '>';
  for (const char c : element.text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  for (const XmlElement& child : element.children) write(child, out);
  out += "</" + element.name + '>';
}

bool same(const XmlElement& a, const XmlElement& b) {
  return a.name == b.name && a.text == b.text &&
         std::equal(a.children.begin(), a.children.end(), b.children.begin(), b.children.end(), same);
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace penstock;
  Cutter cutter({reinterpret_cast<const char*>(data), size}, "");
  XmlElement read;
  try {
    read = parse_xml(cutter.next());
  } catch (const std::runtime_error&) {
    return 0;
  }
  std::string written;
  write(read, written);
  require(same(parse_xml(written), read), "what was read can be written and read again");
  return 0;
}
