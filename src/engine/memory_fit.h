#pragma once
#include <optional>

#include "engine/gguf.h"

namespace penstock {

// What llama-server takes of its device's memory, in bytes.
struct MemoryNeed {
  std::int64_t weights = 0;
  std::int64_t kv_cache = 0;  // of all slots
  std::int64_t buffers = 0;   // for computing
  std::int64_t total() const { return weights + kv_cache + buffers; }
};

// From above: of models with sliding windows or latent attention the cache is smaller.
MemoryNeed memory_need(const GgufHeader& model, int context, int slots);

// What a model is given where the operator left it to us (0).
struct Size {
  int context = 0, slots = 0;
  MemoryNeed need;
  bool fits = true;  // or not even one slot does
};
constexpr int kContextDefault = 4096, kManagedSlots = 8;

// `memory`: what there is; nothing when that is not known, and then all fits.
Size choose_size(const GgufHeader& model, int context, int slots, std::optional<std::int64_t> memory);

// What the machine has left for new programs (MemAvailable in /proc/meminfo).
std::optional<std::int64_t> memory_available();

// "1.4 GB": of 1024^3 bytes, as memory is sold.
std::string memory_text(std::int64_t bytes);

}  // namespace penstock
