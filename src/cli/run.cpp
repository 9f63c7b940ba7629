#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/signal_set.hpp>
#include <cerrno>
#include <filesystem>

#include "base/hash.h"
#include "base/output_file.h"
#include "cli/app.h"
#include "cli/commands.h"
#include "client/local_files.h"
#include "client/progress.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kCopySize = 1 << 20;
constexpr Millis kPatience{2'000};  // for lines under way at an interruption
// What the batch's metadata remembers of its input, so that a run goes on only with the same one.
constexpr const char* kInputHash = "input_hash";

fs::path state_folder(const RunOptions& options) {
  const fs::path output = fs::absolute(options.output);
  return output.parent_path() / fmt::format(".{}.penstock", output.filename().string());
}

// Hands the file to `each` piece by piece and returns a hash of all of it.
template <class F>
std::string read_input(const std::string& path, F each) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw UsageError(fmt::format("cannot read {}: {}", path, std::generic_category().message(errno)));
  StreamHash hash;
  std::string chunk;
  while (in) {
    chunk.resize(kCopySize);
    in.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    chunk.resize(static_cast<std::size_t>(in.gcount()));
    hash.add(chunk);
    each(chunk);
  }
  if (in.bad()) throw UsageError(fmt::format("cannot read {}: {}", path, std::generic_category().message(errno)));
  return hash.hex();
}

// Copies a blob to `path`, whole or not at all.
void export_blob(BlobStore& blobs, const FileId& id, const fs::path& path) {
  const auto reader = blobs.open(id.value);
  OutputFile out(path);
  std::string chunk;
  for (std::uint64_t at = 0; at < reader->size(); at += chunk.size()) {
    chunk.clear();
    reader->read_at(at, kCopySize, chunk);
    out.write(chunk);
  }
  out.commit();
}

class Run {
 public:
  Run(asio::io_context& loop, const Config& config, const RunOptions& options)
      : options_(options),
        app_(loop, config),
        services_(app_.services()),
        ended_(loop),
        signals_(loop, SIGINT, SIGTERM) {}

  Task<> main() {
    signals_.async_wait([this](boost::system::error_code error, int) {
      if (error) return;
      interrupted_ = true;
      ended_.notify();
    });
    services_.lifecycle.on_end = [this](const BatchId&) { ended_.notify(); };
    id_ = co_await find_or_create();
    co_await app_.start();
    const Batch batch = co_await watch();
    signals_.cancel();
    co_await app_.drain(kPatience);
    co_await app_.stop();
    if (is_terminal(batch.status)) {
      finish(batch);
    } else if (interrupted_) {
      exit_code = kExitInterrupted;
      fmt::print(stderr, "interrupted; the same command goes on where this one stopped\n");
    } else {
      exit_code = kExitAccident;
      fmt::print(stderr, "penstock: {}\n", troubles(batch));
    }
  }

  int exit_code = kExitOk;
  bool over = false;  // nothing is left to go on with

 private:
  Task<BatchId> find_or_create() {
    const auto batches =
        co_await services_.db.read([](Store& store) { return store.list_batches(kDefaultProject, std::nullopt, 1); });
    if (!batches->items.empty()) {
      const Batch& batch = batches->items.front();
      const std::string hash = read_input(options_.input, [](std::string_view) {});
      if (batch.metadata->front() != std::pair<std::string, std::string>(kInputHash, hash)) {
        throw UsageError(
            fmt::format("{} holds the state of an interrupted run of another input; run that one to its "
                        "end, or remove the folder",
                        app_.data_path()));
      }
      const std::int64_t done = batch.counts.completed + batch.counts.failed;
      fmt::print(stderr, "going on: {} of {} lines are done\n", done, batch.counts.total);
      co_return batch.id;
    }
    Batch batch;
    batch.id = {random_id("batch_")};
    batch.input_file_id = {random_id("file-")};
    batch.endpoint = input_endpoint(options_.input);
    batch.completion_window = "none";
    const auto writer = services_.blobs.create(batch.input_file_id.value);
    batch.metadata =
        Metadata{{kInputHash, read_input(options_.input, [&](std::string_view bytes) { writer->write(bytes); })}};
    writer->commit();
    batch.created_at = services_.clock.now();
    constexpr std::chrono::seconds kForever = std::chrono::years(100);
    batch.expires_at = batch.created_at + kForever;
    batch.output_expires_after_seconds = kForever.count();
    const File file{.id = batch.input_file_id,
                    .filename = options_.input,
                    .purpose = "batch",
                    .bytes = writer->size(),
                    .created_at = batch.created_at,
                    .expires_at = std::nullopt};
    co_await services_.db.write([&](Store& store) {
      store.insert_file(file);
      store.insert_batch(batch, QueueLimits{0, 0}).value();
    });
    co_return batch.id;
  }

  // What is wrong with the engines, or with the model when they are up.
  std::string troubles(const Batch& batch) const {
    if (batch.model && services_.engines.is_gone(*batch.model) && !services_.engines.is_hopeless(*batch.model)) {
      return fmt::format("no engine serves the model {}; they serve: {}", *batch.model,
                         fmt::join(services_.engines.told_models(), ", "));
    }
    return fmt::format("{}", fmt::join(services_.engines.troubles(), "; "));
  }

  // Until the batch has ended, or we were interrupted, or no engine will ever answer.
  Task<Batch> watch() {
    Progress progress(::isatty(STDERR_FILENO));
    while (true) {
      const auto batch = co_await services_.db.read([&](Store& store) { return store.find_batch(id_); });
      const Moment now = services_.clock.monotonic();
      progress.show(*batch, troubles(*batch), now);
      if (is_terminal(batch->status) || interrupted_ ||
          (batch->model && services_.engines.is_hopeless(*batch->model))) {
        progress.end();
        co_return *batch;
      }
      co_await ended_.wait_until(services_.clock, now + progress.interval());
    }
  }

  void finish(const Batch& batch) {
    over = true;
    if (batch.status == BatchStatus::failed) {
      fmt::print(stderr, "{}", faults_text(batch, options_.input));
      exit_code = kExitUsage;
      return;
    }
    if (batch.output_file_id) {
      export_blob(services_.blobs, *batch.output_file_id, options_.output);
    } else {
      OutputFile(options_.output).commit();
    }
    const fs::path errors = errors_path(options_.output, options_.errors);
    if (batch.error_file_id) {
      export_blob(services_.blobs, *batch.error_file_id, errors);
    } else {
      fs::remove(errors);
    }
    fmt::print(stderr, "{}",
               summary(batch, services_.clock.now(),
                       options_.errors_shown_in.empty() ? errors.string() : options_.errors_shown_in));
    exit_code = batch.counts.failed > 0 ? kExitLinesFailed : kExitOk;
  }

  const RunOptions& options_;
  App app_;
  Services& services_;
  Event ended_;
  asio::signal_set signals_;
  BatchId id_;
  bool interrupted_ = false;
};

}  // namespace

int run(const Config& given, const RunOptions& options) {
  check_input(options.input);
  check_outputs(options.output, options.errors, options.input);
  Config config = given;
  config.data = state_folder(options);
  config.database = config.blobs = "";
  config.worker = true;
  config.max_requests_per_job = 0;  // limits of a shared queue do not matter here
  int exit_code = kExitOk;
  bool over = false;
  {
    asio::io_context loop(1);
    Run run(loop, config, options);
    run_until_done(loop, run.main());
    exit_code = run.exit_code;
    over = run.over;
  }
  if (over) fs::remove_all(config.data);
  return exit_code;
}

}  // namespace penstock
