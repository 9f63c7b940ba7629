#include "engine/memory_fit.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>

namespace penstock {
namespace {

constexpr double kCacheElementSize = 2;  // f16, as llama-server's default
constexpr double kBatchTokens = 512;     // computed at once: its default
// Values that a token has at the widest place of a layer, for each of its embedding. Of a small Llama 17.5 MB were
// measured beside the logits, and this says 18.
constexpr double kValuesAToken = 12;

std::int64_t bytes(double size) {
  return static_cast<std::int64_t>(std::min(size, 1e18));
}

}  // namespace

MemoryNeed memory_need(const GgufHeader& model, int context, int slots) {
  double heads = 0;
  for (const int n : model.kv_heads) heads += n;
  const double a_token = heads * (double{1} * model.key_length + model.value_length) * kCacheElementSize;
  const double values = static_cast<double>(model.vocabulary) + kValuesAToken * model.embedding_length;
  return {.weights = model.file_size,
          .kv_cache = bytes(a_token * context * slots),
          .buffers = bytes(kBatchTokens * (values * sizeof(float) + 2.0 * context))};
}

Size choose_size(const GgufHeader& model, int context, int slots, std::optional<std::int64_t> memory) {
  Size size;
  size.context = context;
  if (context == 0) {
    size.context = model.context_length > 0 ? std::min(model.context_length, kContextDefault) : kContextDefault;
  }
  size.slots = slots > 0 ? slots : kManagedSlots;
  const auto fits = [&] {
    size.need = memory_need(model, size.context, size.slots);
    return !memory || size.need.total() <= *memory;
  };
  while (!fits() && slots == 0 && size.slots > 1) --size.slots;
  size.fits = fits();
  return size;
}

std::optional<std::int64_t> memory_available() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  for (std::int64_t kilobytes = 0; in >> name >> kilobytes; in.ignore(16, '\n')) {
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  return std::nullopt;
}

std::string memory_text(std::int64_t bytes) {
  const double megabytes = static_cast<double>(bytes) / (1 << 20);
  return megabytes < 1000 ? fmt::format("{:.0f} MB", megabytes) : fmt::format("{:.1f} GB", megabytes / 1024);
}

}  // namespace penstock
