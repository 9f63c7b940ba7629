#pragma once
#include "api/handlers.h"
#include "base/disk.h"
#include "store/queue_figures.h"

namespace penstock {

// What this process tells monitoring: docs/metrics.md lists it. What is in the database is asked for at most once a
// second, and left out while it is away. Loop thread only; `services` outlives it.
class MetricsPage {
 public:
  explicit MetricsPage(const Services& services) : services_(services) {}
  Task<std::string> write(metrics::Format format);

 private:
  Task<> look();
  void write_queue(metrics::Exposition& page) const;

  const Services& services_;
  std::optional<Moment> looked_at_;
  bool database_up_ = false;
  std::vector<QueueFigures> queue_;
  std::int64_t pending_deliveries_ = 0;
};

// The same as an answer to who sends this request.
Task<Response> metrics_response(MetricsPage& page, const Request& request);

}  // namespace penstock
