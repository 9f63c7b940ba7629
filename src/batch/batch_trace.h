#pragma once
#include "model/types.h"
#include "net/trace.h"

// One trace a batch, or its part in that of whoever created it: the spans "batch", in there "validate", "run" and
// "finalize", and in "run" the lines that are drawn, with their attempts. Ids are made of the batch's, so they are the
// same in every process and after a restart; times are those that the store has.
namespace penstock {

// The span of that name.
TraceContext batch_span(const BatchId& id, const std::optional<std::string>& traceparent, std::string_view name);
TraceContext line_span(const BatchId& id, const std::optional<std::string>& traceparent, std::uint32_t index);

void trace_validation(Tracer& tracer, const Batch& batch, Timestamp start, Timestamp end,
                      const std::optional<std::string>& error);
// The others, of one that has ended.
void trace_batch(Tracer& tracer, const Batch& batch);

}  // namespace penstock
