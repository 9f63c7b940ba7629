#pragma once
#include <gtest/gtest.h>
#include <atomic>

#include "base/log.h"
#include "batch/fleet.h"
#include "batch/plan.h"
#include "batch/validate.h"
#include "testing/fake_clock.h"
#include "testing/faulty_connection.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"
#include "testing/scripted_engine.h"

namespace penstock {

// What outlives a process: the database and the blobs.
struct Disk {
  explicit Disk(const std::string& database = ":memory:") : db(database), blobs(open_local_blobs(folder / "blobs")) {}
  Disk(std::unique_ptr<sql::Connection> session, std::unique_ptr<BlobStore> store)
      : db(std::move(session)), blobs(std::move(store)) {}

  std::string read(const FileId& id) const {
    const auto reader = blobs->open(id.value);
    if (!reader) return "no such blob";
    std::string bytes;
    reader->read_at(0, reader->size(), bytes);
    return bytes;
  }

  TempDir folder;
  Db db;
  std::unique_ptr<BlobStore> blobs;
};

// The same with a database that fails when a test says so.
class FaultyDisk {
  std::unique_ptr<sql::Connection> database_ = sql::open_sqlite(":memory:");
  std::unique_ptr<FaultyConnection> session_ = std::make_unique<FaultyConnection>(*database_);
  TempDir folder_;

 public:
  FaultyDisk() {
    sql::transaction(*database_, [&] { Store(*database_).migrate(); });
  }

  FaultyConnection& connection = *session_;
  Disk disk{std::move(session_), open_local_blobs(folder_ / "blobs")};
};

// While there is one, what blocking() has on pools is counted, so that a test can wait for it. A simulation, which runs
// it itself, is left alone.
class PoolWork {
 public:
  PoolWork() {
    if (users_++ > 0 || simulated_pools) return;
    simulated_pools = [](asio::thread_pool& pool, std::function<void()> work) {
      ++under_way_;
      asio::post(pool, [work = std::move(work)] {
        work();
        --under_way_;
      });
    };
    counts_ = true;
  }
  PoolWork(const PoolWork&) = delete;
  PoolWork& operator=(const PoolWork&) = delete;
  ~PoolWork() {
    if (--users_ == 0 && std::exchange(counts_, false)) simulated_pools = nullptr;
  }

  static bool is_under_way() { return under_way_ > 0; }

 private:
  static inline std::atomic<int> under_way_{0};
  static inline int users_ = 0;
  static inline bool counts_ = false;
};

// A process with scripted engines and a clock moved by hand. Two of them, one after the other on the same disk, are a
// restart; one that is not run any more has been killed, as far as the disk can tell.
class Process {
 public:
  explicit Process(Disk& the_disk, Dispatcher::Options options = {}, Lifecycle::Options lifecycle_options = {},
                   bool shares = false)
      : disk(the_disk),
        name(options.worker.empty() ? random_id("process_") : options.worker),
        clock(loop),
        engines(loop, clock),
        dispatcher(loop, clock, disk.db, *disk.blobs, engines, estimator, with_name(std::move(options), name),
                   [this](const BatchId& id) {
                     done.push_back(id);
                     lifecycle.notify(id);
                   }),
        lifecycle(loop, clock, disk.db, *disk.blobs, engines, &dispatcher,
                  with_name(std::move(lifecycle_options), name, disk.folder.path())),
        fleet(loop, clock, disk.db, engines, estimator, lifecycle, &dispatcher, {.process = name, .shares = shares}) {
    log::set_level(log::Level::off);
  }
  ~Process() {
    stop();
    log::set_level(log::Level::info);
  }

  ScriptedEngine& add_engine(ScriptedEngine::Options options = {}) {
    auto made = std::make_unique<ScriptedEngine>(loop, engines.changed(), std::move(options));
    ScriptedEngine& engine = *made;
    engines.add(std::move(made));
    return engine;
  }

  template <class F>
  auto write(F f) {
    return run_task(loop, disk.db.write(std::move(f)));
  }

  void start_dispatcher() {
    write([this](Store& store) {
      store.bury_all();
      store.join(name, true, clock.now());
    });
    dispatcher.start();
    engines.start();
  }
  void start() {
    start_dispatcher();
    lifecycle_runs_ = true;
    run_task(loop, lifecycle.resume());
  }
  // As one of several on the disk.
  void start_shared() {
    run_task(loop, fleet.start());
    dispatcher.start();
    engines.start();
    lifecycle_runs_ = true;
    run_task(loop, lifecycle.resume());
  }
  void stop(Millis patience = Millis{0}) {
    if (std::exchange(stopped_, true)) return;
    run_task(loop, stop_all(patience));
  }

  // The test has stopped it itself.
  void dispatcher_is_stopped() {
    stopped_ = true;
    run_task(loop, engines.stop());
  }

  // A batch as the API stores it; after start() it is driven to its end.
  BatchId submit(const std::string& jsonl, Millis window = std::chrono::hours(24), Batch batch = {}) {
    batch.id = {random_id("batch_")};
    batch.driver = name;
    batch.input_file_id = {random_id("file-")};
    if (batch.endpoint.empty()) batch.endpoint = "/v1/chat/completions";
    batch.completion_window = "24h";
    batch.created_at = clock.now();
    batch.expires_at = clock.now() + window;
    const auto writer = disk.blobs->create(batch.input_file_id.value);
    writer->write(jsonl);
    writer->commit();
    write([&](Store& store) {
      store.insert_file({batch.input_file_id, "in.jsonl", "batch", jsonl.size(), clock.now(), std::nullopt});
      store.insert_batch(batch, {0, 0}).value();
    });
    if (lifecycle_runs_) lifecycle.start(batch.id);
    return batch.id;
  }
  // The same, validated and in progress already. Before start().
  BatchId submit_running(const std::string& jsonl, Batch like = {}) {
    const BatchId id = submit(jsonl, std::chrono::hours(24), std::move(like));
    const Batch made = batch(id);
    const Validated checked =
        validate(*disk.blobs->open(made.input_file_id.value), {.endpoint = made.endpoint, .models = {}});
    write_plan(*disk.blobs, made.input_file_id, checked.entries);
    write(
        [&](Store& store) { store.start_batch(id, checked.model, static_cast<std::int64_t>(checked.entries.size())); });
    dispatcher.wake();
    return id;
  }
  void pause(const BatchId& id, bool paused) {
    write([&](Store& store) {
      store.set_paused(kDefaultProject, id, paused ? std::optional(clock.now()) : std::nullopt).value();
    });
    lifecycle.set_paused(id, paused);
  }
  void cancel(const BatchId& id) {
    write([&](Store& store) { store.request_cancel(kDefaultProject, id, clock.now()).value(); });
    lifecycle.notify(id);
  }

  Batch batch(const BatchId& id) {
    return run_task(loop, disk.db.read([&](Store& store) { return store.find_batch(id).value(); }));
  }
  std::int64_t remaining(const BatchId& id) {
    return run_task(loop, disk.db.read([&](Store& store) { return store.remaining(id); }));
  }

  template <class Condition>
  [[nodiscard]] bool until(Condition condition) {
    return run_until(loop, std::move(condition));
  }
  [[nodiscard]] bool until_ended(const BatchId& id) {
    return until([&] { return is_terminal(batch(id).status); });
  }
  // Lets what is under way get as far as it can without time passing.
  void settle() {
    while (true) {
      const bool busy = PoolWork::is_under_way();  // first: what ends by now has its coroutine on the loop
      loop.restart();
      if (loop.poll() > 0) continue;
      if (!busy) return;
      loop.run_one_for(std::chrono::milliseconds(10));
    }
  }
  // Time passes for the alarms that are set now.
  void advance(Millis step) {
    poll(loop);
    clock.advance(step);
    poll(loop);
  }

  const PoolWork pool_work;
  Disk& disk;
  const std::string name;
  asio::io_context loop;
  FakeClock clock;
  Engines engines;
  Estimator estimator;
  Dispatcher dispatcher;
  Lifecycle lifecycle;
  Fleet fleet;
  std::vector<BatchId> done;  // whose last line was saved

 private:
  static Dispatcher::Options with_name(Dispatcher::Options options, const std::string& name) {
    options.worker = name;
    return options;
  }
  static Lifecycle::Options with_name(Lifecycle::Options options, const std::string& name, const std::string& folder) {
    options.process = name;
    options.scratch_directory = folder;
    return options;
  }
  Task<> stop_all(Millis patience) {
    co_await lifecycle.stop();
    co_await dispatcher.stop(patience);
    co_await engines.stop();
    co_await fleet.stop();
  }

  bool lifecycle_runs_ = false;
  bool stopped_ = false;
};

// Answers are saved as they come: the clock of a test does not move by itself.
inline Dispatcher::Options saving_at_once() {
  Dispatcher::Options options;
  options.commit_after = Millis{0};
  return options;
}

}  // namespace penstock
