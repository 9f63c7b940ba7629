#pragma once
#include <functional>
#include <limits>
#include <map>
#include <span>

#include "base/error.h"
#include "model/types.h"
#include "sql/connection.h"

namespace penstock {

template <class T>
struct Page {
  std::vector<T> items;
  bool has_more = false;
};

// What a client is told of an unknown id; `param` is the parameter that named it.
Error no_such_file(const FileId& id, std::string param = "id");
Error no_such_batch(const BatchId& id, std::string param = "");

struct FileQuery {
  std::optional<FileId> after;
  std::int64_t limit = 10'000;
  bool ascending = false;
  std::optional<std::string> purpose;
  ProjectId project = kDefaultProject;
};

// An upload that takes no more parts, and the parts that it had: the caller removes their blobs after the commit.
struct EndedUpload {
  Upload upload;
  std::vector<PartId> parts;
};

// 0 means no limit.
struct QueueLimits {
  std::int64_t depth = 20;                // unfinished batches
  std::int64_t queued_total = 1'000'000;  // lines still to do, over all unfinished batches
};

// Which batches of a project are meant. Nothing: all.
struct BatchFilter {
  std::optional<BatchStatus> status;  // as people see it: one that waits is `validating`
  std::optional<std::string> model;
  std::optional<Timestamp> created_after, created_before;  // from then on; before then
  std::string search;                                      // in its id or its metadata, whatever the case of letters
};

// Sums over batches of one status and model.
struct BatchTotals {
  BatchStatus status{};
  std::string model;  // empty: not known
  std::int64_t batches = 0;
  Counts counts;
  Usage usage;
  double seconds = 0;  // from their creations to their ends, of those that have completed
};

// A create that its client may send again without its being done again.
struct IdempotencyKey {
  std::string key;      // the client's, behind project and route: each has keys of its own
  std::string request;  // a hash of what is asked for
};

// Some of a batch's spans: from `first` to before `end`.
struct SpanRange {
  std::int64_t first = 0, end = std::numeric_limits<std::int64_t>::max();
};

// A place in the lines of a batch, in the order in which they were saved: `offset` bytes into the lines of the group
// `seq`, or at the beginning of the next one that there is.
struct SavedPlace {
  std::int64_t seq = 0;
  std::size_t offset = 0;
};

// A batch that has lines which could be run now.
struct Demand {
  std::string model;
  int priority = 0;
  ProjectId project;
};

// A batch that has such lines which nobody has claimed.
struct Work {
  std::string model;
  ProjectId project;
  bool begun = false;
};

struct BatchState {
  BatchStatus status{};
  bool paused = false;
};

// A claim of spans.
struct Claim {
  std::string owner, model;
  std::int64_t lines = 0;    // as many spans as make about so many, at least one
  std::int64_t workers = 1;  // that share the batch: near its end each is given less, so that all end together
  bool begin = false;        // also of batches that wait
  ProjectId project = kDefaultProject;
};

// A process of those that live, as it is stored.
struct Peer {
  std::string id;
  std::int64_t beats = 0;
  bool is_worker = false;
  std::string report;
  Timestamp seen_at{};  // when it gave its last beat, by its own clock
};

// What a batch was when it ended; see Store::finish_batch().
struct Finish {
  BatchStatus status{};  // completed, expired or cancelled
  std::optional<File> output, errors;
  Counts counts;
};

// What a version of the schema changes of the one before.
struct SchemaScript {
  std::string_view statements;
  // Programs that know only the version before can work with this one too, beside newer ones.
  bool earlier_programs_can_go_on = false;
};

struct SchemaVersions {
  std::int64_t database = 0, program = 0;
  bool can_be_used = false;  // by this program, which brings an older one to its own version
};

// Every statement of Penstock. Plain blocking functions for one thread at a time; each expects to run inside a
// transaction that the caller holds (see Db), so several calls can be one. They throw sql::Failure when the database
// fails; what may be so is a Result or an optional.
//
// Moves of a batch are compare-and-set: of two that cross, one wins and the other is told.
//
// What takes a project with a client's id knows only what is that project's: of all else it says what it says of an
// unknown id.
//
// Where transactions of several sessions could cross, these locks keep them apart, taken in this order:
// - `lock("key …")`: of an idempotency key, from recall() on.
// - `lock("queue")`: who inserts batches or removes files, so that the queue's limits hold and no batch is left without
//   its input.
// - `lock("bytes …")`: who adds to what a project with a quota of bytes has stored.
// - `lock("endpoints …")`: who makes webhook endpoints of that project, so that their limit holds.
// - the row of a webhook endpoint: who changes it, from reading it on.
// - the row of a batch: who changes its status, its spans or its results, but for who frees spans of the dead. So a
//   batch's groups are committed in the order of `seq`. Who changes several takes them in the order of their ids.
// - the row of an upload: who changes its status or its parts.
// Of projects and keys there is `lock("access")`, which is taken alone. Whoever claims deliveries skips rows that
// others have locked.
class Store {
 public:
  explicit Store(sql::Connection& connection) : sql_(connection) {}

  // For Access and Outbox, whose statements are part of the same transaction.
  sql::Connection& connection() { return sql_; }

  // Brings an empty database, or that of an earlier release, to this program's schema. Throws UsageError when it is
  // newer, and not made for this program to go on with.
  void migrate();
  // The same with these scripts, from that of version 1 on.
  void migrate(std::span<const SchemaScript> scripts);

  // How its schema stands to this program's, and changes nothing. Throws when the database has no schema of ours.
  SchemaVersions schema_versions();

  // The name that tells this database from every other: `first`, when it has none yet.
  std::string identity(const std::string& first);
  std::optional<std::string> known_identity();
  // Whether the place of its files was seen to bear that name; set_marked() says so.
  bool is_marked();
  void set_marked();

  // --- files and uploads; `now` is when it is asked, since what is late has expired whether or not anybody has noticed
  void insert_file(const File& file);
  std::optional<File> find_file(const ProjectId& project, const FileId& id, Timestamp now);
  // With those that have expired and are not removed yet.
  std::vector<FileId> all_file_ids();
  // Error not_found when `after` was never a file; a removed one still marks its place.
  Result<Page<File>> list_files(const FileQuery& query, Timestamp now);
  // Error not_found, or invalid_request with code file_in_use while an unfinished batch reads it. The caller removes
  // the blobs after the commit.
  Result<void> delete_file(const ProjectId& project, const FileId& id, Timestamp now);
  // Removes those that have expired and tells which they were, for the caller to remove their blobs. One that an
  // unfinished batch reads stays until that has ended.
  std::vector<File> expire_files(Timestamp now);
  // When expire_files() will next find one, as things stand.
  std::optional<Timestamp> next_file_expiry();

  void insert_upload(const Upload& upload);
  std::optional<Upload> find_upload(const ProjectId& project, const UploadId& id, Timestamp now);
  // Error not_found, or invalid_request saying how it has ended. So for all that need a pending one.
  Result<Upload> pending_upload(const ProjectId& project, const UploadId& id, Timestamp now);
  Result<void> insert_part(const ProjectId& project, const UploadPart& part, Timestamp now);
  std::vector<UploadPart> upload_parts(const UploadId& id);
  // Of all uploads: they name the blobs that are wanted.
  std::vector<PartId> all_part_ids();
  // pending -> completed, and inserts the file, which is of the same project.
  Result<EndedUpload> complete_upload(const UploadId& id, const File& file, Timestamp now);
  // pending -> cancelled.
  Result<EndedUpload> cancel_upload(const ProjectId& project, const UploadId& id, Timestamp now);
  // Moves those that are late to expired.
  std::vector<EndedUpload> expire_uploads(Timestamp now);
  // When the next pending one will have expired.
  std::optional<Timestamp> next_upload_expiry();

  // From here to the end of the transaction no file is removed and no batch inserted by another one. Before looking at
  // a file that a batch will read; what does one of these things takes the lock itself.
  void lock_queue();

  // --- idempotency; in one transaction with the create
  // The id of what the same request made within the last day, if it did; key_reused when another one had this key.
  Result<std::optional<std::string>> recall(const IdempotencyKey& key, Timestamp now);
  void remember(const IdempotencyKey& key, const std::string& object_id, Timestamp now);

  // --- batches
  // Checks the project's quotas and the limits and inserts, atomically. Error quota_exceeded, or queue_full with the
  // words of the contract. `counts.total` is the number of lines where it is known already.
  Result<void> insert_batch(const Batch& batch, const QueueLimits& limits);
  // With counts and usage summed over its spans.
  std::optional<Batch> find_batch(const BatchId& id);
  // The same of one that is this project's, for who has the id from a client.
  std::optional<Batch> find_batch(const ProjectId& project, const BatchId& id);
  // Newest first. Error not_found when `after` is unknown. `skip`: so many of the first ones are left out.
  Result<Page<Batch>> list_batches(const ProjectId& project, const std::optional<BatchId>& after, std::int64_t limit,
                                   const BatchFilter& filter = {}, std::int64_t skip = 0);
  // Of what there is some.
  std::vector<BatchTotals> batch_totals(const ProjectId& project, const BatchFilter& filter);
  // How many were created in each hour from `since` on, by its number; 0 is the first.
  std::map<std::int64_t, std::int64_t> created_by_hour(const ProjectId& project, Timestamp since);
  // Inserts `batch`, which has an id, a project and a time of creation, to run those lines of `id`, of that project,
  // again that have no good answer; all else is as it was there. Error not_found, quota_exceeded, queue_full, or
  // conflict saying why there is nothing to run.
  Result<Batch> retry_batch(const BatchId& id, Batch batch, const QueueLimits& limits);
  std::vector<BatchId> unfinished_batches();
  // All that have not ended, in the order in which they are served: priority, then deadline, then arrival.
  std::vector<Batch> queue();
  std::optional<BatchState> batch_state(const BatchId& id);
  // Tells every process of this database, at the commit, that something about the batch has changed. What other
  // functions change that others must know of soon, they tell themselves.
  void notify(const BatchId& id);
  // Those of queue() that have lines to run now, in its order.
  std::vector<Demand> demands(Timestamp now);
  // Those of them whose lines could be claimed, in no order.
  std::vector<Work> work(Timestamp now);
  // Error not_found, or conflict when it has ended.
  Result<Batch> set_priority(const ProjectId& project, const BatchId& id, int priority);
  // Pauses it, or lets it go on when `since` is nothing; no change when it is so already. Error not_found, or conflict
  // when it has ended or soon will.
  Result<Batch> set_paused(const ProjectId& project, const BatchId& id, std::optional<Timestamp> since);
  // Moves from `from` to `to` and sets the time of `to`; false when the batch is not in `from` (any more).
  bool advance(const BatchId& id, BatchStatus from, BatchStatus to, Timestamp now);
  // Whether this process sees the batch to its end, from here to the end of the transaction.
  bool drives(const std::string& process, const BatchId& id);
  // validating -> failed.
  bool fail_batch(const BatchId& id, const std::vector<LineError>& errors, std::int64_t error_total, Timestamp now);
  // Cuts the lines of a batch that has not been started into spans, all of them to do, for answers of an earlier one to
  // be saved with token 0 before start_batch(). What was saved so before is removed. False, and nothing is changed,
  // when it was started or has ended: none may be saved then.
  bool begin_retry(const BatchId& id, std::int64_t total);
  // validating -> in_progress, with `total` lines cut into spans; it waits until one is claimed.
  bool start_batch(const BatchId& id, const std::string& model, std::int64_t total);
  // An unfinished batch becomes `cancelling`; one that is cancelling or cancelled is returned as it is. Error
  // not_found, or conflict when it has ended otherwise.
  Result<Batch> request_cancel(const ProjectId& project, const BatchId& id, Timestamp now);
  // `from` -> finish.status: inserts the files, freezes counts and usage, removes the spans and puts into the outbox
  // who is to be told; fail_batch() does that too. False when the batch is not in `from`, and then nothing is changed.
  bool finish_batch(const BatchId& id, BatchStatus from, const Finish& finish, Timestamp now);

  // --- spans and results
  // Spans of one batch that nobody holds become the owner's: of that project's first in queue() for that model that has
  // any. Those past their expiry are left alone.
  std::vector<ClaimedSpan> claim_spans(const Claim& claim, Timestamp now);
  // Those with lines to do.
  std::vector<SpanKey> held_spans(const std::string& owner);
  std::int64_t count_held_by_others(const BatchId& id, const std::string& owner);
  // What it holds is free for another claim.
  void release_span(const SpanKey& span, const std::string& owner);
  void release_spans(const std::string& owner);
  void release_spans(const std::string& owner, const BatchId& id);
  // Raises every token of the batch, and none of its spans is claimed any more: what is not saved by now never is.
  void fence(const BatchId& id);
  // The request indices that result groups of this span hold.
  std::vector<std::uint32_t> finished_indices(const SpanKey& span);
  // Saves one group and adds it to its span. False, and nothing is changed, when the span's token is another by now or
  // the batch is finalizing or has ended. Throws when the span would hold more lines than it has.
  bool save_results(const ResultGroup& group);
  // Lines still to do of this batch; 0 also when it has no spans.
  std::int64_t remaining(const BatchId& id);

  // Every group of the batch's spans, in their order, one in memory at a time; `entries` and `lines` are filled. `each`
  // does not use the store. Who holds a transaction for long keeps others waiting: take some spans at a time.
  void for_each_group(const BatchId& id, const std::function<void(const ResultGroup&)>& each, SpanRange spans = {});
  // Output lines from `place` on, in the order in which they were saved: of as many groups as make `enough` bytes, or
  // of all there are. Moves `place` behind them. What is saved later stands behind what was saved before. None of
  // a retry before it starts or ends: begin_retry() may remove those again.
  std::string saved_lines(const BatchId& id, SavedPlace& place, std::size_t enough);
  // Looks for the line of that request in up to `limit` groups, from `place` on. True: `place` is its beginning; else
  // `place` is behind these groups.
  bool find_line(const BatchId& id, std::uint32_t index, SavedPlace& place, std::int64_t limit);
  // When it ended; nothing while it has not.
  std::optional<Timestamp> ended_at(const BatchId& id);
  // Whether it has ended and one of its files was deleted since.
  bool has_deleted_files(const BatchId& id);
  // When the first of the ended batches ended that still have groups. One with deleted files did at the beginning of
  // time: its groups hold what was in them.
  std::optional<Timestamp> first_end_with_results();
  // Removes up to `limit` groups of a batch that has ended by `ended_by`, in the same sense; returns how many. Call
  // until 0.
  std::int64_t purge_results(Timestamp ended_by, std::int64_t limit);

  // --- processes
  // A process begins to live; one that was buried lives again, and holds nothing.
  void join(const std::string& process, bool is_worker, Timestamp now);
  // It still does, and says this of its engines. False when it was buried: what it held others have by now.
  bool beat(const std::string& process, const std::string& report, Timestamp now);
  // Whether it does, to the end of this transaction.
  bool lives(const std::string& process);
  // All that live, by their ids.
  std::vector<Peer> peers();
  // Lives no more: its spans, batches and deliveries are free. False, and nothing is changed, when it was buried
  // already, or has given a beat since those that were seen.
  bool bury(const std::string& process, std::optional<std::int64_t> beats = std::nullopt);
  // For the only process of a database, at its start: whoever was here is gone.
  void bury_all();
  // The batches that have not ended and that no living process sees to their ends are this one's now. All that are its
  // own, the oldest first.
  std::vector<BatchId> adopt_batches(const std::string& process);
  // The newest beat of any worker, living or not.
  std::optional<Timestamp> worker_last_seen();

 private:
  void insert_spans(std::int64_t batch_seq, std::int64_t total);
  std::optional<std::vector<ClaimedSpan>> claim_once(const Claim& claim, Timestamp now);
  void remember_removed(const FileId& id, std::int64_t seq, const ProjectId& project);
  std::vector<PartId> remove_content(const UploadId& id);
  Result<EndedUpload> end_upload(const ProjectId& project, const UploadId& id, UploadStatus end,
                                 const std::optional<FileId>& file, Timestamp now);

  sql::Connection& sql_;
};

}  // namespace penstock
