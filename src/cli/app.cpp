#include "cli/app.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/directory.h"
#include "base/hash.h"
#include "base/log.h"
#include "batch/assemble.h"
#include "batch/plan.h"
#include "cli/model_setup.h"
#include "engine/http_engine.h"
#include "engine/managed_engine.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

// Engines and clients may want more connections than a process usually has file descriptors.
void take_all_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

constexpr std::size_t kIoThreads = 2, kIoThreadsShared = 16;  // over a network each waits for its answer

// A commit over a network takes longer, and others commit too.
constexpr Millis kCommitAfterShared{50};

// Blobs in a store that others use too are left alone for so long, since of one that is new the row may be on its way;
// and so often is looked for those that a crash has left.
constexpr Millis kForeign = std::chrono::hours(12);

constexpr Millis kLastDeliveries{2'000};  // for those under way when this process ends

std::unique_ptr<Tracer> make_tracer(asio::io_context& loop, Clock& clock, const std::string& process,
                                    const Config& config) {
  if (config.otlp_endpoint.empty()) return nullptr;
  return std::make_unique<Tracer>(
      loop, clock,
      Tracer::Options{
          .endpoint = Endpoint::parse(config.otlp_endpoint).value(), .process = process, .lines = config.trace_lines});
}

Dispatcher::Options dispatcher_options(const std::string& process, Tracer* tracer, const Config& config) {
  Dispatcher::Options options;
  options.worker = process;
  options.retry.attempts_max = config.line_attempts;
  options.embedding_group = config.embedding_group;
  options.tracer = tracer;
  if (!config.database.empty()) options.commit_after = kCommitAfterShared;
  return options;
}

std::vector<std::string> names_of(const std::vector<SinkOptions>& sinks) {
  std::vector<std::string> names;
  for (const SinkOptions& sink : sinks) names.push_back(sink.name);
  return names;
}

}  // namespace

DataDirectory::DataDirectory(const std::string& path) {
  try {
    path_ = fs::absolute(path);
    make_directory(path_);
  } catch (const std::system_error& e) {
    throw UsageError(fmt::format("data: cannot use the folder {}: {}", path, e.code().message()));
  }
  const std::string lock = path_ + "/lock";
  lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) {
    throw UsageError(
        fmt::format("data: cannot write in the folder {}: {}", path_, std::generic_category().message(errno)));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw DataInUse(fmt::format("data: another penstock uses the folder {}; stop it, or name another folder", path_));
  }
  ::mkdir(logs().c_str(), 0700);
  sockets_ = path_ + "/sockets";
  constexpr std::size_t kNameMax = 24;  // of a socket in there
  own_sockets_ = sockets_.size() + kNameMax >= sizeof(sockaddr_un::sun_path);
  if (own_sockets_) {
    StreamHash hash;
    hash.add(path_);
    sockets_ = fs::temp_directory_path() / fmt::format("penstock-{}", hash.hex());
  }
  ::mkdir(sockets_.c_str(), 0700);
  struct stat status {};
  if (::lstat(sockets_.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid()) {
    throw UsageError(fmt::format("data: cannot use the folder {} for sockets", sockets_));
  }
}

DataDirectory::~DataDirectory() {
  std::error_code ignored;
  if (own_sockets_) fs::remove_all(sockets_, ignored);
  ::close(lock_);
}

App::App(asio::io_context& loop, const Config& config)
    : loop_(loop),
      shares_database_(!config.database.empty()),
      shares_blobs_(shares_database_ || !config.blobs.empty()),
      data_(config.data),
      clock_(loop),
      db_(shares_database_ ? config.database : data_.database()),
      place_(config.blobs.empty() ? data_.blobs() : config.blobs),
      blobs_(open_blobs(place_, data_.path())),
      io_(shares_blobs_ ? kIoThreadsShared : kIoThreads),
      engines_(loop, clock_),
      tracer_(make_tracer(loop, clock_, process_, config)),
      dispatcher_(config.worker ? std::make_unique<Dispatcher>(loop, clock_, db_, *blobs_, engines_, estimator_,
                                                               dispatcher_options(process_, tracer_.get(), config),
                                                               [this](const BatchId& id) { lifecycle_.notify(id); })
                                : nullptr),
      lifecycle_(loop, clock_, db_, *blobs_, engines_, dispatcher_.get(),
                 {.process = process_,
                  .scratch_directory = data_.path(),
                  .batch_lines_max = config.max_requests_per_job,
                  .tracer = tracer_.get()}),
      fleet_(loop, clock_, db_, engines_, estimator_, lifecycle_, dispatcher_.get(),
             {.process = process_, .shares = shares_database_}),
      deliveries_(loop, clock_, db_, {.process = process_, .sinks = names_of(config.sinks)}),
      webhook_allow_(AllowList::parse(config.webhook_allow).value()),
      swapper_(loop, clock_, db_, std::chrono::seconds(config.swap_after_s)),
      expiry_(loop, clock_, db_, *blobs_, io_),
      authenticator_(loop, clock_, db_, config.insecure, config.cors_origins),
      services_{.clock = clock_,
                .db = db_,
                .blobs = *blobs_,
                .engines = engines_,
                .estimator = estimator_,
                .lifecycle = lifecycle_,
                .expiry = expiry_,
                .deliveries = deliveries_,
                .webhook_allow = webhook_allow_,
                .authenticator = authenticator_,
                .loop = loop_,
                .io = io_,
                .limits = {.queue = {.depth = config.max_queue_depth, .queued_total = config.max_total_queued_requests},
                           .batch_file_bytes_max = static_cast<std::uint64_t>(config.max_batch_file_bytes),
                           .batch_lines_max = config.max_requests_per_job,
                           .accept_when_offline = config.accept_when_offline,
                           .completion_windows = config.completion_windows},
                .sinks = names_of(config.sinks),
                .cors_origins = config.cors_origins,
                .process = process_,
                .has_worker = config.worker,
                .started_at = clock_.now(),
                .metrics = &metrics_,
                .dispatcher = dispatcher_.get(),
                .fleet = &fleet_,
                .monitor = &monitor_,
                .data = data_.path(),
                .tracer = tracer_.get()},
      metrics_(services_),
      monitor_(loop, services_),
      disk_(
          loop, clock_, io_, [this] { return disk_room(data_.path()); },
          [this](bool low) {
            services_.disk_low = low;
            fleet_.set_disk_low(low);
            if (low) engines_.spare_disk();
            if (dispatcher_) dispatcher_->set_disk_low(low);
          }),
      tasks_(loop) {
  take_all_descriptors();
  lifecycle_.on_end = [this](const BatchId&) {
    expiry_.notify();
    deliveries_.wake();
  };
  deliveries_.add(DeliveryKind::webhook,
                  std::make_unique<WebhookSender>(loop, clock_, db_, webhook_allow_, tracer_.get()));
  auto sinks = std::make_unique<SinkSender>(loop, clock_, db_, *blobs_,
                                            SinkSender::Options{.sinks = config.sinks,
                                                                .allow = webhook_allow_,
                                                                .scratch_directory = data_.path(),
                                                                .log_directory = data_.logs()});
  sinks_ = sinks.get();
  deliveries_.add(DeliveryKind::sink, std::move(sinks));
  expiry_.on_removed = [this] { lifecycle_.forget_deleted(); };
  lifecycle_.on_work = [this] { swapper_.wake(); };
  engines_.on_change.push_back([this] { swapper_.wake(); });
  if (config.worker) add_engines(loop, config);
}

void App::add_engines(asio::io_context& loop, const Config& config) {
  const Millis line_timeout = std::chrono::seconds(config.line_timeout_s);
  for (const std::string& url : config.engines) {
    engines_.add(std::make_unique<HttpEngine>(loop, clock_,
                                              HttpEngine::Options{.endpoint = Endpoint::parse(url).value(),
                                                                  .name = url,
                                                                  .key = config.engine_key,
                                                                  .slots = config.slots,
                                                                  .only_model = config.only_model,
                                                                  .line_timeout = line_timeout,
                                                                  .stream_answers = config.stream_answers},
                                              engines_.changed()),
                 config.shared_engines);
  }
  add_models(loop, config);
  if (!engines_.empty()) return;
  if (!config.models.empty()) {
    throw UsageError(fmt::format("model: '{}' is not among the configured models", config.only_model));
  }
  throw UsageError(
      "there is no engine to answer requests: name a model with --model FILE.gguf, an engine with --engine URL, or put "
      "either into penstock.toml (scripts/quickstart.sh does)");
}

void App::add_models(asio::io_context& loop, const Config& config) {
  std::vector<ModelSetup> setups;
  for (const ModelConfig& model : config.models) {
    if (!config.only_model.empty() && config.only_model != model.name) continue;
    setups.push_back(set_up(model, config));
    if (!setups.back().faults.empty()) throw UsageError(setups.back().faults.front());
  }
  std::map<std::string, std::vector<ManagedEngine*>> devices;
  int number = 0;
  for (const ModelSetup& setup : setups) {
    const ModelConfig& model = setup.config;
    if (setup.gguf) {
      log::info("model {}: {} slots of {} tokens, in {}", model.name, setup.slots, setup.context,
                memory_text(setup.need.total()));
    }
    for (const std::string& advice : setup.advice) log::info("model {}: {}", model.name, advice);
    auto engine = std::make_unique<ManagedEngine>(
        loop, clock_,
        ManagedEngine::Options{.model = model.name,
                               .path = model.path,
                               .command = setup.command,
                               .env = model.env,
                               .socket = fmt::format("{}/{}.sock", data_.sockets(), number++),
                               .slot_folder = fmt::format("{}/slots/{}", data_.path(), file_name_of(model.name)),
                               .log = fmt::format("{}/{}.log", data_.logs(), file_name_of(model.name)),
                               .slots = setup.slots,
                               .context = setup.context ? setup.context : kContextDefault,
                               .line_timeout = std::chrono::seconds(config.line_timeout_s)},
        engines_.changed());
    devices[model.device].push_back(engine.get());
    engines_.add(std::move(engine));
  }
  for (auto& [name, engines] : devices) {
    if (engines.size() == 1) {
      engines.front()->set_wanted(true);
    } else {
      swapper_.add_device(name, std::move(engines));
    }
  }
}

Task<> App::start() {
  fs::remove_all(data_.path() + "/slots");  // what a crash left
  if (shares_blobs_) co_await check_place();
  if (tracer_) tracer_->start();
  co_await disk_.start();
  if (shares_database_) {
    db_.listen(loop_, [this](const std::string& batch) {
      fleet_.heard(batch);
      deliveries_.wake();  // others may have ended it and gone
    });
  }
  co_await fleet_.start();
  deliveries_.start();
  if (shares_blobs_) {
    tasks_.keep("looking through the blobs", clock_, [this] { return keep_swept(); });
  } else {
    co_await sweep();
  }
  if (dispatcher_) dispatcher_->start();
  engines_.start();
  swapper_.start();
  expiry_.start();
  tasks_.keep("noting which keys are used", clock_, [this] { return authenticator_.note_uses(); });
  co_await lifecycle_.resume();
}

// The place is marked with the database's name, once: then it must have that.
Task<> App::check_place() {
  bool marked = false;
  const std::string name = co_await db_.write([&](Store& store) {
    std::string id = store.identity(random_id("database_"));
    marked = store.is_marked();
    return id;
  });
  const std::string its = co_await blocking(io_, [&] {
    if (!marked || blobs_->open(std::string(kIdentityKey))) return identity(*blobs_, name);
    return std::string();
  });
  if (its != name) {
    throw UsageError(
        fmt::format("blobs: {} is not where the files of this database are. All servers and workers of one database "
                    "need the same --blobs, and those of another database another one",
                    place_));
  }
  if (!marked) co_await db_.write([](Store& store) { store.set_marked(); });
}

Task<> App::keep_swept() {
  while (true) {
    co_await sweep();
    co_await sleep_until(clock_, clock_.monotonic() + kForeign);
  }
}

// Removes the blobs of ours that no row names: a crash has left them. The files of a batch that has not ended may be in
// the making.
Task<> App::sweep() {
  const Millis age = shares_blobs_ ? kForeign : Millis{0};
  const auto keys = co_await blocking(io_, [&] {
    blobs_->abort_unfinished(age);
    return blobs_->keys(age);
  });
  const auto named = co_await db_.read([](Store& store) {
    std::set<std::string> all;
    for (const FileId& id : store.all_file_ids()) {
      all.insert(id.value);
      all.insert(plan_key(id));
    }
    for (const PartId& id : store.all_part_ids()) all.insert(id.value);
    for (const BatchId& id : store.unfinished_batches()) {
      all.insert(output_file_id(id).value);
      all.insert(error_file_id(id).value);
    }
    return all;
  });
  co_await blocking(io_, [&] {
    for (const std::string& key : keys) {
      if (!named.contains(key)) blobs_->remove(key);
    }
  });
}

// Batches go on to their ends meanwhile: that of the last line may be one.
Task<> App::drain(Millis patience) {
  services_.draining = true;
  fleet_.retire();
  co_await swapper_.stop();
  if (dispatcher_) co_await dispatcher_->stop(patience);
}

Task<> App::stop() {
  tasks_.cancel();
  co_await tasks_.join();
  co_await disk_.stop();
  co_await expiry_.stop();
  co_await lifecycle_.stop();
  co_await deliveries_.stop(kLastDeliveries);
  co_await sinks_->stop();
  co_await engines_.stop();
  if (tracer_) co_await tracer_->stop(kLastDeliveries);
  co_await fleet_.stop();  // it has been there to the last
}

}  // namespace penstock
