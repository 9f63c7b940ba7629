#include "batch/plan.h"

#include <fmt/core.h>

#include <stdexcept>

namespace penstock {

std::string plan_key(const FileId& input) {
  return fmt::format("plan-{}", input.value);
}

void write_plan(BlobStore& blobs, const FileId& input, const std::vector<PlanEntry>& entries) {
  const auto writer = blobs.create(plan_key(input));
  writer->write({reinterpret_cast<const char*>(entries.data()), entries.size() * sizeof(PlanEntry)});
  writer->commit();
}

std::vector<PlanEntry> read_plan(const BlobReader& plan, std::uint32_t first, std::uint32_t count) {
  std::string bytes;
  plan.read_at(first * sizeof(PlanEntry), count * sizeof(PlanEntry), bytes);
  if (bytes.size() != count * sizeof(PlanEntry)) throw std::runtime_error("a plan is shorter than its spans say");
  std::vector<PlanEntry> entries(count);
  bytes.copy(reinterpret_cast<char*>(entries.data()), bytes.size());
  return entries;
}

std::uint32_t plan_size(const BlobReader& plan) {
  return static_cast<std::uint32_t>(plan.size() / sizeof(PlanEntry));
}

}  // namespace penstock
