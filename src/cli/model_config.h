#pragma once
#include <toml++/toml.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/command_template.h"

namespace penstock {

// A model of the configuration that an engine of ours is to serve.
struct ModelConfig {
  std::string name;                    // that lines ask for
  std::string path;                    // a GGUF file, or what the engine takes in its place
  std::string engine = "llama.cpp";    // or "vllm", "sglang", "command"
  std::string program = {};            // empty: the engine's own
  CommandTemplate command = {};        // of the engine "command"
  std::vector<std::string> args = {};  // further ones
  std::map<std::string, std::string> env = {};
  std::string device = "default";  // models of one device are loaded one at a time
  int context = 0, slots = 0;      // 0: left to us
};

// NAME = "FILE.gguf", or a table. Paths start at `folder`. Throws UsageError: what is wrong with which key.
ModelConfig parse_model(const std::string& name, const toml::node& node, const std::filesystem::path& folder);
// The same as a line of TOML. `env` may hold secrets, and only its names are shown.
std::string print_model(const ModelConfig& model);

// A table of device names, each with its `memory` in bytes.
std::map<std::string, std::int64_t> parse_devices(const toml::node& node);

// "24GB", of 1024^3 bytes; also KB, MB and TB. Throws UsageError.
std::int64_t parse_memory(const std::string& text);

std::string quote(const std::string& text);                     // as a string of TOML
std::string quote_list(const std::vector<std::string>& texts);  // as a list of them

// A path of the configuration file, which starts at the file's folder.
std::string from_folder(const std::filesystem::path& folder, const std::string& path);
// A program's name without a '/' is looked up in PATH and stays as it is.
std::string program_from_folder(const std::filesystem::path& folder, const std::string& program);

}  // namespace penstock
