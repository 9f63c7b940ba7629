#include "client/profile.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <toml++/toml.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace penstock {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kDefaultUrl = "http://127.0.0.1:4080";
constexpr const char* kDefaultProfile = "default";
constexpr std::array<std::string_view, 4> kKeys = {"url", "key", "key_file", "ca_file"};

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw UsageError(fmt::format("cannot read {}: {}", path.string(), std::generic_category().message(errno)));
  return text.str();
}

// What holds a key is its owner's alone.
void refuse_readable_by_others(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw UsageError(fmt::format("{0} holds a key, and others can read it: chmod 600 {0}", path.string()));
  }
}

Target target_of(std::string url, const std::string& named_by) {
  auto endpoint = Endpoint::parse(url);
  if (!endpoint) throw UsageError(fmt::format("{}: {}", named_by, endpoint.error().message));
  // As official clients are told where the API is.
  if (endpoint->base_path.ends_with("/v1")) endpoint->base_path.resize(endpoint->base_path.size() - 3);
  return {.url = std::move(url), .endpoint = std::move(*endpoint), .key = {}, .ca_file = {}};
}

std::map<std::string, std::string> profile_values(const toml::table& table, const std::string& where) {
  std::map<std::string, std::string> values;
  for (const auto& [key, value] : table) {
    const std::string name(key.str());
    if (std::find(kKeys.begin(), kKeys.end(), name) == kKeys.end()) {
      throw UsageError(fmt::format("{}: there is no '{}'; known are: {}", where, name, fmt::join(kKeys, ", ")));
    }
    const auto text = value.value<std::string>();
    if (!text || text->empty()) throw UsageError(fmt::format("{}: {}: expected a string", where, name));
    values[name] = *text;
  }
  if (!values.contains("url")) throw UsageError(fmt::format("{}: it has no url", where));
  if (values.contains("key") && values.contains("key_file")) {
    throw UsageError(fmt::format("{}: key and key_file exclude each other", where));
  }
  return values;
}

Target read_profile(const toml::table& table, const std::string& name, const fs::path& file) {
  const std::string where = fmt::format("{}: profiles.{}", file.string(), name);
  auto values = profile_values(table, where);
  Target target = target_of(values["url"], where + ".url");
  if (values.contains("ca_file")) target.ca_file = file.parent_path() / values["ca_file"];
  if (values.contains("key")) {
    refuse_readable_by_others(file);
    target.key = values["key"];
  } else if (values.contains("key_file")) {
    const fs::path key_file = file.parent_path() / values["key_file"];
    target.key = read_file(key_file);
    refuse_readable_by_others(key_file);
    target.key.erase(target.key.find_last_not_of(" \r\n") + 1);
  }
  return target;
}

std::optional<Target> find_profile(const std::string& name, const fs::path& file) {
  if (!fs::exists(file)) return std::nullopt;
  toml::table all;
  try {
    all = toml::parse(read_file(file));
  } catch (const toml::parse_error& e) {
    throw UsageError(fmt::format("{}:{}: {}", file.string(), e.source().begin.line, std::string(e.description())));
  }
  const toml::table* table = all["profiles"][name].as_table();
  if (!table) return std::nullopt;
  return read_profile(*table, name, file);
}

Target named_profile(const std::string& name, const std::string& file) {
  if (auto target = find_profile(name, file)) return std::move(*target);
  throw UsageError(fmt::format("there is no profile '{}': {} has no [profiles.{}]", name, file, name));
}

}  // namespace

Target find_target(const std::optional<std::string>& url, const std::optional<std::string>& profile,
                   const std::map<std::string, std::string>& environment, const std::string& file) {
  const auto variable = [&](const char* name) -> const std::string* {
    const auto found = environment.find(name);
    return found == environment.end() || found->second.empty() ? nullptr : &found->second;
  };
  Target target;
  if (url) {
    target = target_of(*url, "--url");
  } else if (profile) {
    target = named_profile(*profile, file);
  } else if (const auto* from_url = variable("PENSTOCK_URL")) {
    target = target_of(*from_url, "PENSTOCK_URL");
  } else if (const auto* from_profile = variable("PENSTOCK_PROFILE")) {
    target = named_profile(*from_profile, file);
  } else {
    target = find_profile(kDefaultProfile, file).value_or(target_of(std::string(kDefaultUrl), "the default"));
  }
  if (const auto* key = variable("PENSTOCK_API_KEY"); key && target.key.empty()) target.key = *key;
  if (target.key.find_first_of(" \t\r\n") != std::string::npos) {
    throw UsageError("the key has a blank or a line break in it");
  }
  return target;
}

std::string profile_file() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  const fs::path folder = config && *config ? fs::path(config) : fs::path(home ? home : ".") / ".config";
  return folder / "penstock" / "config.toml";
}

}  // namespace penstock
