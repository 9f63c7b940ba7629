#pragma once
#include <optional>

#include "cli/config.h"
#include "engine/memory_fit.h"

namespace penstock {

// A configured model with all that was left to us, and what is to be said of it.
struct ModelSetup {
  ModelConfig config;
  CommandTemplate command;
  int context = 0, slots = 0;          // 0: its program chooses
  std::optional<GgufHeader> gguf;      // of llama.cpp alone, as what follows
  std::optional<std::int64_t> memory;  // of its device, as far as we know
  MemoryNeed need;
  bool fits = true;
  std::vector<std::string> faults;  // why it cannot be served
  std::vector<std::string> advice;  // for better service
};

// Looks at its file, its program and the machine's memory.
ModelSetup set_up(const ModelConfig& model, const Config& config);

}  // namespace penstock
