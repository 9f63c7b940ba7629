#include "blob/s3.h"
#include "delivery/sink.h"

namespace penstock {
namespace {

constexpr std::size_t kPieceSize = 4 << 20;

class S3Sink final : public Sink {
 public:
  S3Sink(asio::thread_pool& pool, const S3SinkOptions& options, const std::string& scratch_directory)
      : pool_(pool), objects_(open_s3_objects(S3Options::from_environment(options.url), scratch_directory)) {}

  Task<Outcome> bring(const SinkAttempt& attempt) override {
    const Results& results = *attempt.results;
    for (const Results::Part& part : results.parts()) {
      if (static_cast<std::uint64_t>(attempt.delivery.position) >= part.end) continue;
      const auto writer = objects_->create(attempt.delivery.batch_id.value + "/" + part.name);
      for (std::uint64_t at = part.begin; at < part.end; at = part.begin + writer->size()) {
        co_await blocking(pool_, [&] { writer->write(results.bytes(at, kPieceSize)); });
      }
      co_await blocking(pool_, [&] { writer->commit(); });
      const bool goes_on = co_await attempt.progress.note(static_cast<std::int64_t>(part.end));
      if (!goes_on) co_return broken_off();
    }
    co_return Outcome{};
  }

 private:
  asio::thread_pool& pool_;
  const std::unique_ptr<S3Objects> objects_;
};

}  // namespace

std::unique_ptr<Sink> make_s3_sink(asio::thread_pool& pool, const S3SinkOptions& options,
                                   const std::string& scratch_directory) {
  return std::make_unique<S3Sink>(pool, options, scratch_directory);
}

}  // namespace penstock
