#pragma once
#include <array>
#include <map>
#include <string_view>

#include "base/metrics.h"

namespace penstock {

// The requests of a server since its start, by their routes. Loop thread only.
struct HttpTotals {
  static constexpr double kSeconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10, 60};

  struct Route {
    std::array<std::int64_t, 5> by_class{};  // of statuses: 1xx, 2xx, …
    metrics::Histogram seconds{kSeconds};    // to the head of the answer
  };
  // Path and method as the table of routes has them, which outlives this.
  std::map<std::pair<std::string_view, std::string_view>, Route> routes;

  void add(std::string_view path, std::string_view method, int status, double seconds) {
    Route& route = routes[{path, method}];
    ++route.by_class.at(static_cast<std::size_t>(status / 100 - 1));
    route.seconds.add(seconds);
  }
};

}  // namespace penstock
