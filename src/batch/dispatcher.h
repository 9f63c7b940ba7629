#pragma once
#include <map>
#include <random>
#include <set>

#include "batch/answer_lengths.h"
#include "batch/batch_trace.h"
#include "batch/estimate.h"
#include "batch/fair_share.h"
#include "batch/known_answers.h"
#include "batch/line_loader.h"
#include "batch/totals.h"
#include "blob/blob_store.h"
#include "engine/registry.h"
#include "store/db.h"

namespace penstock {

// Hands lines to engines and keeps their slots full; saves what they answer. Lives on the loop thread. The referenced
// parts must outlive it. Killing the process at any point loses no saved result: what is in no result group is still to
// do.
class Dispatcher {
 public:
  struct Options {
    std::string worker;       // this process's name on what it holds
    Millis commit_after{10};  // the oldest answer waits no longer for others to be saved with
    std::size_t commit_lines = 256;
    retry::Options retry;
    int embedding_group = 1;                             // lines for embeddings that are sent in one request
    std::uint32_t random_seed = std::random_device{}();  // of pauses
    Tracer* tracer = nullptr;
  };

  // Called on the loop thread when the last line of a batch has been saved.
  using BatchDone = std::function<void(const BatchId&)>;

  Dispatcher(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, Engines& engines, Estimator& estimator,
             Options options, BatchDone batch_done);

  // Starts its tasks; they go on until stop().
  void start();

  // There may be new spans to claim.
  void wake();

  // What is held is ours until then, whoever sees no sign of us; for ever, while nothing is said. Towards that moment
  // no line is sent.
  void hold_until(Moment end) { held_until_ = end; }
  // So many workers share the database.
  void set_workers(std::int64_t count) { workers_ = count; }
  // Nothing is ours any more: its lines are not sent. Those under way end, and what is answered is saved where nobody
  // else has claimed it.
  void lose_all();
  const Totals& totals() const { return totals_; }
  // Lines of the model that are held here and were not sent yet.
  std::int64_t waiting(const std::string& model) const;
  // Of which there are lines here, or something else is remembered.
  std::set<BatchId> batches();
  bool is_paused(const BatchId& id) const { return paused_.contains(id); }

  // While it is paused no line of the batch is sent; those under way end as they would. The store must let no span of
  // it be claimed meanwhile.
  void set_paused(const BatchId& id, bool paused);

  // While the disk is low no line is sent and no span claimed: its answer might find no room. Lines under way end as
  // they would.
  void set_disk_low(bool low);

  // Forgets the batch's waiting lines; those already sent have `grace` to end and are still saved. Returns when nothing
  // of the batch is under way. Its status must be one from which no span is claimed.
  Task<> drain(BatchId id, Millis grace);

  // Sends no more; lines under way have `patience` to end; saves what came and gives the spans back. What the
  // store could not do to the last is logged: those lines run again after the next start.
  Task<> stop(Millis patience);

 private:
  using Spans = std::vector<std::shared_ptr<HeldSpan>>;
  struct Result {
    std::shared_ptr<HeldSpan> span;
    std::uint32_t index = 0;
    std::string custom_id_json;
    LineOutcome outcome;
  };
  // Of one project, for one model.
  struct Queue {
    LineQueue lines;
    bool more_begun = true;        // what the last claim found was not all
    bool more_waiting = true;      // there may be batches that have not begun
    bool to_look = true;           // something has changed, so another claim may find more
    std::size_t riding_bytes = 0;  // of lines that wait for the answer of another one
    Share share;                   // of the slots
  };
  struct Model {
    std::map<ProjectId, Queue> queues;  // of projects that have work
    FairShare slots;
    std::int64_t under_way = 0;
  };
  // A line that is sent, and those that take its outcome since they ask the same.
  struct Asked {
    Line line;
    std::vector<Line> riders;
  };
  class Custody;
  // A batch with lines under way or answers not saved yet.
  struct Active {
    explicit Active(asio::io_context& loop) : attempts(loop), saved(loop) {}
    TaskGroup attempts;
    std::size_t unsaved = 0;
    Event saved;
    bool draining = false;
    AnswerLengths lengths;
    KnownAnswers known;                  // of a batch with dedupe
    std::map<Hash128, Custody*> asking;  // who holds the line of that key that is under way
  };
  struct Saved {
    Spans refused;
    std::vector<BatchId> finished;
  };

  Task<> run();
  void engines_changed();
  void set_engines(const std::string& name, Model& model);
  Queue& queue_of(const ClaimedSpan& claim) { return models_[claim.model].queues[claim.project]; }
  void set_aside(const BatchId& id);
  void requeue_due();
  bool may_send() const;
  void start_lines();
  bool start_line(const std::string& name, Model& model);
  // The projects of those for whom `wanted` is true, who is next to be given a slot first.
  std::vector<ProjectId> in_turn(const Model& model, const std::function<bool(const Queue&)>& wanted) const;
  // A batch that waits begins only when a slot of its project's has nothing else to do, so that one of higher priority
  // can still pass it.
  bool may_begin(const std::string& name, const Model& model, const ProjectId& project) const;
  Task<> refill();
  // While the store is away it is asked now and then, and what is claimed already is read and sent all the same.
  Task<> ask_store(Task<> question);
  Task<> look();
  Task<> claim(std::string model, ProjectId project);
  Task<> load(std::string model, ProjectId project);
  bool was_drained(const BatchId& id) const;
  // Gives the line the answer of an earlier one that asks the same, now or when that has it. False when there is none.
  bool share(Line& line);
  Task<> attempt(std::unique_ptr<Custody> custody, Slot slot);
  bool is_traced(const Line& line) const;
  void trace_attempt(const TraceContext& context, const Line& line, const std::string& engine, Timestamp sent,
                     std::size_t lines, const Answer& answer);
  void trace_line(const Line& line, const LineOutcome& outcome);
  void finish_group(Custody& group, retry::Verdict& verdict);
  void finish(Asked& asked, LineOutcome outcome);
  void save_soon(Line& line, LineOutcome outcome);
  // Forgets the waiting lines of such spans.
  void forget(const std::function<bool(const HeldSpan&)>& gone);
  Task<> save();
  Spans held();
  void lose(const Spans& spans);
  Active& active(const BatchId& id);
  void push_front(Line line);
  Moment next_due() const;
  Saved write_groups(Store& store, bool again) const;

  asio::io_context& loop_;
  Clock& clock_;
  Db& db_;
  Engines& engines_;
  Estimator& estimator_;
  Options options_;
  BatchDone batch_done_;

  std::vector<std::weak_ptr<HeldSpan>> claimed_;  // wherever its lines are by now; some are gone
  std::map<std::string, Model> models_;
  std::multimap<Moment, Line> retries_;  // by the time they fall due
  std::map<BatchId, Active> active_;
  std::map<BatchId, LineQueue::Parts> paused_;  // what was in the queue of a batch that is paused

  Totals totals_;
  std::vector<Result> results_, saving_;
  std::size_t unsaved_bytes_ = 0;
  Moment oldest_result_{}, held_until_ = Moment::max();
  std::int64_t workers_ = 1;
  bool refilling_ = false, stopping_ = false, disk_low_ = false;
  bool to_look_ = true;  // for what there is to claim
  Moment looked_at_{};
  bool store_is_away_ = false;
  bool unsure_ = false;  // the last claim may have taken place, though we do not know of what
  std::vector<BatchId> drained_while_refilling_;
  std::minstd_rand random_;
  AnswerParser answers_;
  LineLoader loader_;

  Event wake_, refill_wanted_, have_results_, quiet_;
  asio::thread_pool reading_{1};
  TaskGroup tasks_;
};

}  // namespace penstock
