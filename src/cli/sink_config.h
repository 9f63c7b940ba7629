#pragma once
#include <toml++/toml.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "delivery/sink.h"

namespace penstock {

// A table of the configuration file that says where results may be brought. `${NAME}` in a URL or in the value of a
// header is that variable of the environment. Throws UsageError: what is wrong with which key.
SinkOptions parse_sink(const std::string& name, const toml::node& node, const std::filesystem::path& folder);
// The same for people to read, without what may hold secrets.
std::string print_sink(const SinkOptions& sink);

}  // namespace penstock
