#include "batch/batch_trace.h"

#include <fmt/format.h>

namespace penstock {
namespace {

constexpr const char* kBatch = "batch";

TraceContext span(const BatchId& id, const std::optional<std::string>& traceparent, std::string_view words) {
  const auto parent = parse_traceparent(traceparent.value_or(""));
  return {.trace_id = parent ? parent->trace_id : trace_id_of(id.value),
          .span_id = span_id_of(fmt::format("{} {}", id.value, words)),
          .sampled = !parent || parent->sampled};
}

// Of what is a part of the batch.
Span part(const Batch& batch, const char* name, Timestamp start, Timestamp end) {
  return {.context = batch_span(batch.id, batch.traceparent, name),
          .parent_id = batch_span(batch.id, batch.traceparent, kBatch).span_id,
          .name = name,
          .start = start,
          .end = end};
}

}  // namespace

TraceContext batch_span(const BatchId& id, const std::optional<std::string>& traceparent, std::string_view name) {
  return span(id, traceparent, name);
}

TraceContext line_span(const BatchId& id, const std::optional<std::string>& traceparent, std::uint32_t index) {
  return span(id, traceparent, fmt::format("line {}", index));
}

void trace_validation(Tracer& tracer, const Batch& batch, Timestamp start, Timestamp end,
                      const std::optional<std::string>& error) {
  Span validate = part(batch, "validate", start, end);
  validate.error = error;
  tracer.add(validate);
}

void trace_batch(Tracer& tracer, const Batch& batch) {
  const Timestamp end = *ended_at(batch);
  const auto last_step = batch.cancelling_at ? batch.cancelling_at : batch.finalizing_at;
  if (batch.in_progress_at) tracer.add(part(batch, "run", *batch.in_progress_at, last_step.value_or(end)));
  if (last_step) tracer.add(part(batch, "finalize", *last_step, end));

  const auto parent = parse_traceparent(batch.traceparent.value_or(""));
  Span whole{.context = batch_span(batch.id, batch.traceparent, kBatch),
             .parent_id = parent ? parent->span_id : "",
             .name = kBatch,
             .start = batch.created_at,
             .end = end};
  whole.attributes = {{"penstock.batch.id", batch.id.value},
                      {"penstock.batch.status", std::string(to_string(batch.status))},
                      {"penstock.lines.total", batch.counts.total},
                      {"penstock.lines.completed", batch.counts.completed},
                      {"penstock.lines.failed", batch.counts.failed},
                      {"gen_ai.usage.input_tokens", batch.usage.input},
                      {"gen_ai.usage.output_tokens", batch.usage.output}};
  if (batch.model) whole.attributes.emplace_back("gen_ai.request.model", *batch.model);
  if (batch.status == BatchStatus::failed) whole.error = "its input file has faults";
  if (batch.status == BatchStatus::expired) whole.error = "its completion window expired";
  tracer.add(whole);
}

}  // namespace penstock
