#include <fmt/format.h>

#include "base/exit_codes.h"
#include "client/commands.h"
#include "client/follow.h"
#include "client/local_files.h"
#include "client/transfer.h"

namespace penstock {
namespace {

// What POST /v1/batches is to make.
json::object new_batch(const ClientOptions& options) {
  json::object batch{{"endpoint", options.endpoint.value_or(input_endpoint(options.input))},
                     {"completion_window", options.window}};
  if (options.priority) batch["priority"] = *options.priority;
  if (options.dedupe) batch["dedupe"] = true;
  if (options.webhook) batch["webhook"] = json::object{{"url", *options.webhook}};
  if (!options.sinks.empty()) batch["sinks"] = json::array(options.sinks.begin(), options.sinks.end());
  json::object metadata;
  for (const std::string& pair : options.metadata) {
    const auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError(fmt::format("--metadata: '{}': expected KEY=VALUE", pair));
    }
    metadata[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  if (!metadata.empty()) batch["metadata"] = std::move(metadata);
  return batch;
}

// A file that no batch came of is of no use to anybody.
Task<json::object> create(Server& server, json::object batch, std::string file_id) {
  std::exception_ptr failure;
  try {
    json::object made = co_await server.post_once("/v1/batches", json::serialize(batch));
    co_return made;
  } catch (const CommandFailure&) {
    failure = std::current_exception();
  }
  try {
    co_await server.send("DELETE", "/v1/files/" + file_id);
  } catch (const CommandFailure&) {  // the first failure says more
  }
  std::rethrow_exception(failure);
}

}  // namespace

Task<int> submit(Session& session, const ClientOptions& options) {
  check_input(options.input);
  if (options.output) check_outputs(*options.output, options.errors, options.input);
  json::object batch = new_batch(options);
  const std::string file_id = co_await upload(session.server, options.input);
  batch["input_file_id"] = file_id;
  json::object made = co_await create(session.server, batch, file_id);
  const int code = co_await tell_new_batch(session, std::move(made), options.input, options);
  co_return code;
}

}  // namespace penstock
