#pragma once
#include <set>

#include "api/authenticator.h"
#include "api/expiry.h"
#include "api/http_totals.h"
#include "api/request_rates.h"
#include "batch/lifecycle.h"
#include "delivery/deliveries.h"
#include "delivery/webhook.h"
#include "model/access.h"
#include "net/trace.h"

namespace penstock {

class Fleet;
class MetricsPage;
class Monitor;

// As people are shown it.
struct ShownSetting {
  std::string key, value;  // value: as in a configuration file; "(hidden)" for a secret
  std::string source;      // default, file, environment or flag
  std::string help;
};

// The parts that handlers work with; they outlive the server.
struct Services {
  struct Limits {
    QueueLimits queue;
    std::uint64_t batch_file_bytes_max = 200 << 20;  // of an input file; others may have kFileBytesMax
    std::int64_t batch_lines_max = 50'000;           // 0: no limit
    bool accept_when_offline = false;                // queue batches also while no worker is there
    std::vector<CompletionWindow> completion_windows{{"24h", std::chrono::hours(24)}};
  };

  Clock& clock;
  Db& db;
  BlobStore& blobs;
  Engines& engines;
  const Estimator& estimator;
  Lifecycle& lifecycle;
  Expiry& expiry;
  Deliveries& deliveries;
  const AllowList& webhook_allow;
  Authenticator& authenticator;
  asio::io_context& loop;
  asio::thread_pool& io;  // for reading and writing blobs
  Limits limits;
  std::vector<std::string> sinks = {};         // that are configured
  std::vector<std::string> cors_origins = {};  // whose pages may read our answers: see api/cors.h
  std::string process;                         // this one's name on what it holds
  bool has_worker;                             // of its own
  bool draining = false;                       // it will end soon: what is here goes on, and nothing new is taken
  bool disk_low = false;  // what is left is kept for what is here: no line is sent, and nothing new is taken
  Timestamp started_at;
  RequestRates rates = {};
  // What only monitoring asks, and has no part in tests that leave that out.
  MetricsPage* metrics = nullptr;
  const Dispatcher* dispatcher = nullptr;
  Fleet* fleet = nullptr;
  Monitor* monitor = nullptr;
  std::string data = {};  // the data folder
  std::vector<ShownSetting> settings = {};
  Tracer* tracer = nullptr;  // none when nothing is traced
  HttpTotals http = {};
  std::int64_t uploaded_bytes = 0;
  std::set<ProjectId> tests_of_endpoints = {};  // that are under way: one a project
};

constexpr std::uint64_t kFileBytesMax = 512 << 20;
constexpr std::size_t kJsonBodyMax = 1 << 20;

// One request on its way through a handler.
struct Context {
  Services& services;
  Request& request;
  std::string id;         // what stands for {id} in the route, decoded
  Principal caller = {};  // its project is whose everything is that the handler may know of
  std::string request_id = {};
  std::optional<TraceContext> trace = {};  // of which this request is a part, if its client has told of one

  // Notes in the audit log that the caller has done this; in the transaction that does it. Actions are called as OpenAI
  // calls them: "file.created".
  void audit(Store& store, std::string action, std::string object_id) const;
};

Response json_response(std::string body, int status = 200);
// The status is that of the error's kind, with the headers that official clients act on.
Response error_response(const Error& error);

// `limit` and `after` of a list request. Error invalid_request naming the parameter.
Result<std::int64_t> limit_param(const Request& request, std::int64_t fallback, std::int64_t max);
// One that is a whole number of at least 0; nothing when it is not there. Error invalid_request naming it.
Result<std::optional<std::int64_t>> count_param(const Request& request, const char* name);
// Which batches of a list are meant. Error invalid_request naming the parameter.
Result<BatchFilter> filter_params(const Request& request);

// A blob from its beginning to its end.
std::unique_ptr<ByteSource> whole_blob(asio::thread_pool& io, std::unique_ptr<BlobReader> reader);

// The batch object at this moment; nothing for an id that is unknown in the project.
struct BatchNow {
  std::string json = {};
  bool ended = false;
};
Task<std::optional<BatchNow>> batch_now(Services& services, const ProjectId& project, const BatchId& id);

// Handlers: loop thread; the route boundary turns their exceptions into answers.
Task<Response> create_file(Context& c);
Task<Response> list_files(Context& c);
Task<Response> get_file(Context& c);
Task<Response> get_file_content(Context& c);
Task<Response> delete_file(Context& c);

Task<Response> create_upload(Context& c);
Task<Response> create_part(Context& c);
Task<Response> complete_upload(Context& c);
Task<Response> cancel_upload(Context& c);

Task<Response> create_batch(Context& c);
Task<Response> list_batches(Context& c);
Task<Response> get_batch(Context& c);
Task<Response> update_batch(Context& c);
Task<Response> cancel_batch(Context& c);
Task<Response> retry_batch(Context& c);
Task<Response> pause_batch(Context& c);
Task<Response> resume_batch(Context& c);
Task<Response> follow_results(Context& c);
Task<Response> follow_events(Context& c);

Task<Response> create_endpoint(Context& c);
Task<Response> list_endpoints(Context& c);
Task<Response> get_endpoint(Context& c);
Task<Response> update_endpoint(Context& c);
Task<Response> delete_endpoint(Context& c);
Task<Response> rotate_secret(Context& c);
Task<Response> test_endpoint(Context& c);
Task<Response> list_event_types(Context& c);

Task<Response> list_deliveries(Context& c);
Task<Response> get_delivery(Context& c);
Task<Response> retry_delivery(Context& c);
Task<Response> delete_delivery(Context& c);

Task<Response> get_queue(Context& c);

Task<Response> list_audit_logs(Context& c);

Task<Response> list_models(Context& c);
Task<Response> get_model(Context& c);

Task<Response> health(Context& c);
Task<Response> get_metrics(Context& c);
Task<Response> get_openapi(Context& c);

}  // namespace penstock
