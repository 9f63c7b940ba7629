#include "cli/toml_values.h"

#include <fmt/format.h>

#include "base/error.h"

namespace penstock {

void refuse(const std::string& key, const std::string& expected) {
  throw UsageError(fmt::format("{}: expected {}", key, expected));
}

std::string text_of(const toml::node& node, const std::string& key) {
  const auto* text = node.as_string();
  if (!text || text->get().empty()) refuse(key, "a string");
  return text->get();
}

std::vector<std::string> list_of(const toml::node& node, const std::string& key) {
  const auto* array = node.as_array();
  if (!array) refuse(key, "a list of strings");
  std::vector<std::string> all;
  for (const auto& item : *array) {
    const auto* text = item.as_string();
    if (!text) refuse(key, "a list of strings");
    all.push_back(text->get());
  }
  return all;
}

std::map<std::string, std::string> table_of(const toml::node& node, const std::string& key) {
  const auto* table = node.as_table();
  if (!table) refuse(key, "a table of strings");
  std::map<std::string, std::string> all;
  for (const auto& [name, value] : *table) {
    const auto* text = value.as_string();
    if (!text) refuse(fmt::format("{}.{}", key, name.str()), "a string");
    all.emplace(name.str(), text->get());
  }
  return all;
}

}  // namespace penstock
