#pragma once
#include <span>
#include <string>
#include <vector>

#include "base/disk.h"
#include "cli/config.h"
#include "model/access.h"

// What is open, missing or risky in a configuration, for `penstock doctor`. Each check looks at one thing, says how it
// is, and changes nothing. Those with all that they need in their parameters look nowhere else.
namespace penstock {

struct Finding {
  enum class Level { ok, warn, fail } level{};
  std::string topic;        // a setting's key, or the part of the machine that was looked at
  std::string words;        // how it is
  std::string advice = {};  // what to do about it; empty: nothing
};
using Findings = std::vector<Finding>;

// Whether only this machine has that host; a unix socket has a path, or none.
bool is_local(const std::string& host);

// --- who can reach the API, and how
Finding check_listen(const Config& config, bool has_keys);
// Those of the database; empty where it cannot be read, of which check_database() tells.
std::vector<ApiKey> all_keys(const Config& config);
// Of those that could be used: whether they have an end, and whether anybody uses those that may do everything.
Findings check_keys(std::span<const ApiKey> keys, Timestamp now);
// Whom webhooks may call besides the public Internet.
Findings check_webhook_allow(const std::vector<std::string>& entries);
// Web pages that browsers let call the API.
Findings check_cors_origins(const std::vector<std::string>& origins);
// The files of certificate and key.
Findings check_tls(const Config& config);
Findings check_limits(const Config& config);

// --- what others can read
// Whether it is only its owner's, or only the owner's to change. Of what is not there: nothing.
Findings check_private(const std::string& topic, const std::string& path);
// Of the configuration file, which says what programs are started. `secrets`: what the configuration has of them.
Findings check_config_file(const std::string& path, const std::vector<std::string>& secrets);
// Keys and passwords that could stand in the configuration file.
std::vector<std::string> secrets_in(const Config& config);

// --- the machine
Finding check_room(const DiskRoom& room, const std::string& folder);
Finding check_descriptors(std::uint64_t limit);
Finding check_core_files(std::uint64_t limit);
Finding check_user(bool is_root);
Finding check_clock(Timestamp now);

// --- where things are kept
Findings check_data(const Config& config);
// `from_flag`: its URL stands on the command line.
Findings check_database_url(const Config& config, bool from_flag);
Findings check_database(const Config& config);
Findings check_blobs(const Config& config);

// --- what answers
Findings check_engine_urls(const Config& config);
// Asks each engine for its models.
Findings check_engines(const Config& config);
Findings check_models(const Config& config);

// All of them.
Findings examine(const Config& config, const std::optional<std::string>& config_file, bool database_from_flag);

}  // namespace penstock
