#pragma once
#include <map>
#include <optional>
#include <string>

#include "net/endpoint.h"

namespace penstock {

// Which server a command asks, and as whom.
struct Target {
  std::string url;  // for people
  Endpoint endpoint;
  std::string key;      // empty: none
  std::string ca_file;  // PEM; empty: the authorities that the machine trusts
};

// The first of these says it: --url, --profile, PENSTOCK_URL, PENSTOCK_PROFILE, the profile "default" if there is one;
// else it is http://127.0.0.1:4080. A profile's key and authority are for its own URL alone. Without a key of its own,
// PENSTOCK_API_KEY is sent. Profiles stand in `file`, which need not be there:
//
//   [profiles.NAME]
//   url = "https://batch.example.com"
//   key = "…" or key_file = "FILE"   # neither is needed
//   ca_file = "FILE"                 # neither is this
//
// Names of files start at the folder of `file`. Throws UsageError, also for a file with a key that others can read.
// `environment`: those of its variables that are named here.
Target find_target(const std::optional<std::string>& url, const std::optional<std::string>& profile,
                   const std::map<std::string, std::string>& environment, const std::string& file);

// Where profiles are: penstock/config.toml in $XDG_CONFIG_HOME or ~/.config.
std::string profile_file();

}  // namespace penstock
