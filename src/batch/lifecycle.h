#pragma once
#include <map>

#include "batch/dispatcher.h"

namespace penstock {

// What was saved of an ended batch stays in the database for so long, so that who follows its results can reach their
// end, and go on when the connection broke.
constexpr Millis kResultsKept = std::chrono::hours(1);

// Sees the batches of this process from their creation to their ends. What it does next depends on the stored status
// alone, so a restart, or another process, simply goes on. Loop thread only; the referenced parts must outlive it.
class Lifecycle {
 public:
  struct Options {
    std::string process;  // this one's name on its batches
    std::string scratch_directory;
    std::int64_t batch_lines_max = 50'000;  // 0: no limit
    Millis cancel_grace{30'000};            // for lines under way when their batch is cancelled, not when it expires
    Tracer* tracer = nullptr;
    Millis model_wait{600'000};  // for an engine that serves a batch's model, while none is to be expected to
  };

  // `dispatcher` may be null in a server without a worker.
  Lifecycle(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, Engines& engines, Dispatcher* dispatcher,
            Options options);

  // How many batches this process has seen to each of the ends.
  const std::map<BatchStatus, std::int64_t>& ended() const { return ends_; }
  // Called on the loop thread when a batch has reached its end.
  std::function<void(const BatchId&)> on_end;

  // Called on the loop thread when the batches that have lines to run may be others than before.
  std::function<void()> on_work;

  // Takes over the batches that have not ended and are no process's, and removes what has been kept of those that have
  // for long enough.
  Task<> resume();
  // Takes over those that have become nobody's since.
  Task<> adopt();
  // A batch that is ours, and may be under way already.
  void start(const BatchId& id);
  // Something about it has changed: all its lines are done, it was cancelled, or has another priority.
  void notify(const BatchId& id);
  // The same, by another process perhaps; without an id, of any batch that is ours or has lines here.
  void look(const BatchId& id);
  void look();
  // What the store says of it by now.
  void set_paused(const BatchId& id, bool paused);
  // Something was deleted: what the database and our engines still have of it goes now.
  void forget_deleted();
  Task<> stop();

 private:
  Task<> drive(BatchId id);
  // What is known of a batch's input file.
  struct Checked {
    std::string model;
    std::int64_t total = 0;
    std::vector<LineError> errors;
    std::int64_t error_total = 0;
  };
  Task<> validate(Batch batch);
  Task<Checked> check_input(const Batch& batch);
  // False when another process drives the batch by now.
  Task<bool> keep_answers(const Batch& batch, std::int64_t total);
  Task<> run(Batch batch);
  Task<> finalize(Batch batch, BatchStatus end);
  Task<> trace(BatchId id);
  Task<> purge();
  Task<> watch();
  Task<> leave(BatchId id);
  Task<> let_others_leave(BatchId id, Moment until);

  asio::io_context& loop_;
  Clock& clock_;
  Db& db_;
  BlobStore& blobs_;
  Engines& engines_;
  Dispatcher* dispatcher_;
  Options options_;
  std::map<BatchId, Event> changed_;  // of the batches being driven
  std::set<BatchId> leaving_;         // whose lines here are being given up, though the batch is another process's
  std::uint64_t pauses_ = 0;          // said by this process
  std::map<BatchStatus, std::int64_t> ends_{
      {BatchStatus::completed, 0}, {BatchStatus::failed, 0}, {BatchStatus::expired, 0}, {BatchStatus::cancelled, 0}};
  Event ended_;            // some batch has, or something was deleted
  bool to_forget_ = true;  // something was deleted, by an earlier process perhaps
  Moment forget_at_{};     // not before
  bool to_spare_ = false;  // an engine may keep on disk what it made of a prompt that was deleted
  Moment spare_at_{};
  bool stopping_ = false;  // what comes back from the database begins nothing any more
  Event looking_;
  asio::thread_pool pool_{1};  // validation and assembly: one batch's at a time
  TaskGroup tasks_;
};

}  // namespace penstock
