#pragma once
#include <toml++/toml.h>

#include <map>
#include <string>
#include <vector>

// Values of the configuration file. Each function throws UsageError, which names the key and what is expected there.
namespace penstock {

[[noreturn]] void refuse(const std::string& key, const std::string& expected);

std::string text_of(const toml::node& node, const std::string& key);  // not empty
std::vector<std::string> list_of(const toml::node& node, const std::string& key);
std::map<std::string, std::string> table_of(const toml::node& node, const std::string& key);

}  // namespace penstock
