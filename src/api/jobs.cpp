#include <fmt/format.h>

#include <boost/json.hpp>
#include <cmath>

#include "api/views.h"
#include "model/json_fields.h"

// Batches in the shapes in which BatchLocaLLM told of them, for dashboards that were made for that.
namespace penstock {
namespace {

namespace json = boost::json;

constexpr std::int64_t kTimelineHours = 24;

json::value per_second(std::int64_t amount, double seconds) {
  return amount > 0 && seconds > 0 ? json::value(static_cast<double>(amount) / seconds) : json::value();
}

json::object job(const Batch& batch) {
  const auto end = ended_at(batch);
  const double seconds = end ? std::chrono::duration<double>(*end - batch.created_at).count() : 0;
  const std::int64_t tokens = batch.usage.input + batch.usage.output;
  return {{"batch_id", batch.id.value},
          {"status", to_string(is_waiting(batch) ? BatchStatus::validating : batch.status)},
          {"model", batch.model ? json::value(*batch.model) : json::value()},
          {"created_at", wire::seconds(batch.created_at)},
          {"completed_at", wire::optional_time(batch.completed_at)},
          {"failed_at", wire::optional_time(batch.failed_at)},
          {"cancelled_at", wire::optional_time(batch.cancelled_at)},
          {"total_requests", batch.counts.total},
          {"completed_requests", batch.counts.completed},
          {"failed_requests", batch.counts.failed},
          {"duration", end ? json::value(seconds) : json::value()},
          {"request_throughput", per_second(batch.counts.completed, seconds)},
          {"total_tokens", tokens},
          {"token_throughput", per_second(tokens, seconds)},
          {"priority", batch.priority},
          {"webhook_url", batch.webhook.has_value()},
          {"has_errors", !batch.errors.empty()}};
}

}  // namespace

Task<Response> list_job_history(Context& c) {
  const auto limit = limit_param(c.request, 50, 500);
  if (!limit) co_return error_response(limit.error());
  const auto offset = count_param(c.request, "offset");
  if (!offset) co_return error_response(offset.error());
  const auto filter = filter_params(c.request);
  if (!filter) co_return error_response(filter.error());
  const std::int64_t skip = offset->value_or(0);
  Page<Batch> page;
  std::int64_t total = 0;
  co_await c.services.db.read([&](Store& store) {
    page = store.list_batches(c.caller.project, std::nullopt, *limit, *filter, skip).value();
    total = 0;
    for (const BatchTotals& some : store.batch_totals(c.caller.project, *filter)) total += some.batches;
  });
  json::array jobs;
  for (const Batch& batch : page.items) jobs.push_back(job(batch));
  co_return json_response(json::serialize(json::object{
      {"jobs", std::move(jobs)}, {"total", total}, {"limit", *limit}, {"offset", skip}, {"has_more", page.has_more}}));
}

Task<Response> get_job_stats(Context& c) {
  const auto filter = filter_params(c.request);
  if (!filter) co_return error_response(filter.error());
  const Timestamp first_hour = c.services.clock.now() - std::chrono::hours(kTimelineHours);
  std::vector<BatchTotals> totals;
  std::map<std::int64_t, std::int64_t> hours;
  co_await c.services.db.read([&](Store& store) {
    totals = store.batch_totals(c.caller.project, *filter);
    hours = store.created_by_hour(c.caller.project, first_hour);
  });
  std::int64_t batches = 0, completed = 0, failed = 0, completed_tokens = 0;
  double seconds = 0;
  Counts counts;
  Usage usage;
  std::map<std::string, std::int64_t> by_status, by_model;
  for (const BatchTotals& some : totals) {
    batches += some.batches;
    by_status[std::string(to_string(some.status))] += some.batches;
    if (!some.model.empty()) by_model[some.model] += some.batches;
    counts.total += some.counts.total;
    counts.completed += some.counts.completed;
    counts.failed += some.counts.failed;
    usage += some.usage;
    if (some.status == BatchStatus::failed) failed += some.batches;
    if (some.status != BatchStatus::completed) continue;
    completed += some.batches;
    completed_tokens += some.usage.input + some.usage.output;
    seconds += some.seconds;
  }
  json::array timeline;
  for (std::int64_t hour = 0; hour < kTimelineHours; ++hour) {
    const auto found = hours.find(hour);
    timeline.push_back({{"timestamp", wire::seconds(first_hour + std::chrono::hours(hour))},
                        {"jobs", found == hours.end() ? 0 : found->second}});
  }
  const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 0; };
  co_return json_response(json::serialize(
      json::object{{"total_jobs", batches},
                   {"by_status", json::value_from(by_status)},
                   {"by_model", json::value_from(by_model)},
                   {"success_rate", share(static_cast<double>(completed), static_cast<double>(completed + failed))},
                   {"avg_duration", share(seconds, static_cast<double>(completed))},
                   {"total_requests", counts.total},
                   {"completed_requests", counts.completed},
                   {"failed_requests", counts.failed},
                   {"total_tokens", usage.input + usage.output},
                   {"input_tokens", usage.input},
                   {"cached_tokens", usage.cached},
                   {"output_tokens", usage.output},
                   {"avg_token_throughput", share(static_cast<double>(completed_tokens), seconds)},
                   {"timeline", std::move(timeline)}}));
}

}  // namespace penstock
