#include "delivery/sink_sender.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "base/error.h"
#include "base/log.h"

namespace penstock {
namespace {

// Null when one of the files is gone.
std::shared_ptr<const Results> open_results(const BlobStore& blobs, const std::optional<FileId>& output,
                                            const std::optional<FileId>& errors) {
  std::unique_ptr<BlobReader> readers[2];
  if (output && !(readers[0] = blobs.open(output->value))) return nullptr;
  if (errors && !(readers[1] = blobs.open(errors->value))) return nullptr;
  return std::make_shared<const Results>(std::move(readers[0]), std::move(readers[1]));
}

Outcome never(std::string why) {
  return {.kind = Outcome::Kind::never, .why = std::move(why)};
}

}  // namespace

SinkSender::SinkSender(asio::io_context& loop, Clock& clock, Db& db, const BlobStore& blobs, Options options)
    : loop_(loop), clock_(clock), db_(db), blobs_(blobs), options_(std::move(options)) {
  for (const SinkOptions& sink : options_.sinks) {
    try {
      sinks_.emplace(sink.name, Entry{.output = sink.output, .errors = sink.errors, .sink = make(sink)});
    } catch (const UsageError& e) {
      throw UsageError(fmt::format("sinks.{}: {}", sink.name, e.what()));
    }
  }
}

std::unique_ptr<Sink> SinkSender::make(const SinkOptions& sink) {
  if (const auto* http = std::get_if<HttpSinkOptions>(&sink.to)) return make_http_sink(loop_, clock_, pool_, *http);
  if (const auto* s3 = std::get_if<S3SinkOptions>(&sink.to)) {
    return make_s3_sink(pool_, *s3, options_.scratch_directory);
  }
  if (const auto* postgres = std::get_if<PostgresSinkOptions>(&sink.to)) return make_postgres_sink(pool_, *postgres);
  return make_command_sink(loop_, clock_, pool_, std::get<CommandSinkOptions>(sink.to),
                           fmt::format("{}/sink-{}.log", options_.log_directory, sink.name));
}

Task<Outcome> SinkSender::send(const Delivery& delivery, DeliveryProgress& progress) {
  const auto receiver = boost::json::parse(delivery.receiver).as_object();
  Entry inline_one;
  const Entry* entry = &inline_one;
  std::string name;
  if (const auto* url = receiver.if_contains("url")) {
    HttpSinkOptions options{.url = CallUrl::parse(std::string_view(url->as_string())).value()};
    options.admit = options_.allow.admit(options.url.endpoint.host);
    name = options.url.endpoint.host;
    inline_one.sink = make_http_sink(loop_, clock_, pool_, std::move(options));
  } else {
    name = receiver.at("name").as_string();
    const auto found = sinks_.find(name);
    if (found == sinks_.end()) {
      co_return Outcome{.kind = Outcome::Kind::again, .why = "this server has no sink of that name"};
    }
    entry = &found->second;
  }

  const auto batch = co_await db_.read([&](Store& store) { return store.find_batch(delivery.batch_id); });
  if (!batch) co_return never("the batch is gone");
  const auto output = entry->output ? batch->output_file_id : std::nullopt;
  const auto errors = entry->errors ? batch->error_file_id : std::nullopt;
  SinkAttempt attempt{.delivery = delivery, .results = nullptr, .progress = progress};
  attempt.results = co_await blocking(pool_, [&] { return open_results(blobs_, output, errors); });
  if (!attempt.results) co_return never("the results were deleted before they were delivered");
  co_return co_await bring(*entry->sink, attempt, name);
}

// What is thrown has words for the operator, of his network and his tables.
Task<Outcome> SinkSender::bring(Sink& sink, SinkAttempt attempt, std::string name) {
  try {
    co_return co_await sink.bring(attempt);
  } catch (const std::exception& e) {
    if (is_cancelled(e)) throw;
    log::warn("{}: results of {} cannot be brought to the sink {}: {}", attempt.delivery.id.value,
              attempt.delivery.batch_id.value, name, e.what());
  }
  co_return Outcome{.kind = Outcome::Kind::again,
                    .why = "the results could not be brought there; the server's log says why"};
}

Task<> SinkSender::stop() {
  for (const auto& [name, entry] : sinks_) co_await entry.sink->stop();
}

}  // namespace penstock
