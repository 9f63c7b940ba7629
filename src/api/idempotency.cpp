#include "api/idempotency.h"

#include <fmt/format.h>

#include "base/hash.h"

namespace penstock {
namespace {

constexpr std::size_t kKeySizeMax = 255;

}  // namespace

Result<std::optional<IdempotencyKey>> idempotency_key(const ProjectId& project, const Request& request,
                                                      std::string_view content) {
  const auto key = request.headers.find("idempotency-key");
  if (!key) return std::optional<IdempotencyKey>();
  if (key->empty() || key->size() > kKeySizeMax) {
    return invalid_request(fmt::format("Invalid Idempotency-Key: expected 1 to {} characters.", kKeySizeMax),
                           "Idempotency-Key");
  }
  StreamHash hash;
  hash.add(content);
  return std::optional(IdempotencyKey{fmt::format("{} {} {}", project.value, request.path, *key), hash.hex()});
}

}  // namespace penstock
