#pragma once
#include "api/handlers.h"

// Handlers of what people look at, in a browser or a terminal.
namespace penstock {

Task<Response> get_page(Context& c);
Task<Response> get_whoami(Context& c);
Task<Response> list_lines(Context& c);
Task<Response> compare_batches(Context& c);
Task<Response> list_engines(Context& c);
Task<Response> list_workers(Context& c);
Task<Response> get_stats(Context& c);
Task<Response> follow_topics(Context& c);
Task<Response> list_settings(Context& c);
Task<Response> get_ready(Context& c);
Task<Response> list_job_history(Context& c);
Task<Response> get_job_stats(Context& c);

}  // namespace penstock
