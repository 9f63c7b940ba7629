#include "delivery/schedule.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace penstock {

using namespace std::chrono_literals;

std::optional<Millis> pause_after(std::int64_t failures, const std::optional<Millis>& retry_after, double draw) {
  constexpr std::array<Millis, 9> kSteps = {5s, 5min, 30min, 2h, 5h, 10h, 14h, 20h, 24h};
  constexpr Millis kAskedMax = 1h;
  if (failures > std::ssize(kSteps)) return std::nullopt;
  const Millis step = kSteps.at(static_cast<std::size_t>(failures - 1));
  const Millis pause = std::max(step, std::min(retry_after.value_or(Millis{0}), kAskedMax));
  return pause + Millis(static_cast<std::int64_t>(static_cast<double>(pause.count()) * 0.1 * draw));
}

std::optional<Millis> retry_after(const Headers& headers) {
  const auto text = headers.find("retry-after");
  if (!text) return std::nullopt;
  std::uint32_t seconds = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (error != std::errc{} || end != text->data() + text->size()) return std::nullopt;
  return std::chrono::seconds(seconds);
}

}  // namespace penstock
