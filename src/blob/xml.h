#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

// One element of an XML document of S3: its children and its text, without the attributes, which say nothing there.
struct XmlElement {
  std::string name;
  std::string text;  // of this element alone, with the spaces between its children
  std::vector<XmlElement> children;

  // The first child of that name; null when there is none.
  const XmlElement* child(std::string_view name) const;
  // The text of that child; empty when there is none.
  std::string_view value(std::string_view name) const;
};

// Strict about what it reads, and reads what S3 sends: elements, attributes, text, the five named and the numeric
// entities, comments and a declaration. Document types and CDATA are refused, and elements nested too deep. Throws
// std::runtime_error. XML 1.0, 5th edition.
XmlElement parse_xml(std::string_view document);

}  // namespace penstock
