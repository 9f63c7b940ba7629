#include "batch/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/log.h"
#include "engine/prefix_slots.h"
#include "store/access.h"

namespace penstock {
namespace {

constexpr std::size_t kUnsavedBytesMax = 64 << 20;  // of answers: while the store is away, no line is sent past this
constexpr std::size_t kGroupBytesMax = 8 << 20;     // saved in one transaction, unless one answer is larger
constexpr std::int64_t kClaimLines = 2048;
constexpr std::size_t kRidingBytesMax = 4 << 20;  // of lines that wait for another's answer; past this none are read
constexpr Millis kLookAgain{1'000};               // while projects share, for their weights; or the store is away
constexpr Millis kLastSave{5'000};                // for the last answers, when lines took all the time there was
constexpr Millis kHeldMargin{2'000};              // before others may send our lines

}  // namespace

Dispatcher::Dispatcher(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, Engines& engines,
                       Estimator& estimator, Options options, BatchDone batch_done)
    : loop_(loop),
      clock_(clock),
      db_(db),
      engines_(engines),
      estimator_(estimator),
      options_(std::move(options)),
      batch_done_(std::move(batch_done)),
      random_(options_.random_seed),
      loader_(blobs, options_.embedding_group > 1),
      wake_(loop),
      refill_wanted_(loop),
      have_results_(loop),
      quiet_(loop),
      tasks_(loop) {
  engines_.on_change.push_back([this] { engines_changed(); });
  engines_.on_slot_free = [this] {
    wake_.notify();
    if (stopping_) quiet_.notify();
  };
}

void Dispatcher::start() {
  tasks_.keep("dispatch", clock_, [this] { return run(); });
  tasks_.keep("loading lines", clock_, [this] { return refill(); });
  tasks_.keep("saving results", clock_, [this] { return save(); });
}

void Dispatcher::wake() {
  to_look_ = true;
  wake_.notify();
}

void Dispatcher::engines_changed() {
  for (auto& [name, model] : models_) set_engines(name, model);
  wake();
}

void Dispatcher::set_engines(const std::string& name, Model& model) {
  auto slots = engines_.serving(name);
  for (auto& [engine, count] : slots) count *= options_.embedding_group;  // each may take as many lines
  for (auto& [project, queue] : model.queues) queue.lines.set_engines(slots, model.queues.size());
}

// Every turn starts all that can be started, then sleeps until something has changed.
Task<> Dispatcher::run() {
  while (true) {
    requeue_due();
    start_lines();
    refill_wanted_.notify();
    co_await wake_.wait_until(clock_, next_due());
  }
}

Moment Dispatcher::next_due() const {
  Moment due = clock_.monotonic() + Millis{60'000};
  if (!retries_.empty()) due = std::min(due, retries_.begin()->first);
  if (const auto release = engines_.next_release()) due = std::min(due, *release);
  if (store_is_away_) due = std::min(due, looked_at_ + kLookAgain);
  return due;
}

void Dispatcher::push_front(Line line) {
  if (const auto paused = paused_.find(line.span->claim.key.batch); paused != paused_.end()) {
    return paused->second.lines.push_front(std::move(line));
  }
  queue_of(line.span->claim).lines.push_front(std::move(line));
}

void Dispatcher::requeue_due() {
  while (!retries_.empty() && retries_.begin()->first <= clock_.monotonic()) {
    push_front(std::move(retries_.begin()->second));
    retries_.erase(retries_.begin());
  }
}

void Dispatcher::set_paused(const BatchId& id, bool paused) {
  if (paused) {
    set_aside(id);
  } else if (auto found = paused_.extract(id)) {
    LineQueue::Parts& parts = found.mapped();
    if (!parts.lines.empty() || !parts.stretches.empty()) {
      const HeldSpan& any = parts.lines.empty() ? *parts.stretches.front()->span : *parts.lines.front().span;
      queue_of(any.claim).lines.restore(std::move(parts));
    }
  }
  wake();
}

void Dispatcher::set_aside(const BatchId& id) {
  LineQueue::Parts& aside = paused_[id];
  for (auto& [name, model] : models_) {
    for (auto& [project, queue] : model.queues) {
      aside.append(queue.lines.remove([&](const HeldSpan& span) { return span.claim.key.batch == id; }));
    }
  }
}

void Dispatcher::set_disk_low(bool low) {
  disk_low_ = low;
  wake();
}

Dispatcher::Active& Dispatcher::active(const BatchId& id) {
  return active_.try_emplace(id, loop_).first->second;
}

// Not when what we hold is about to be taken for lost, whatever keeps us from giving a sign: others may send these
// lines then.
bool Dispatcher::may_send() const {
  return !stopping_ && !disk_low_ && unsaved_bytes_ < kUnsavedBytesMax &&
         clock_.monotonic() + kHeldMargin < held_until_;
}

// Holds the lines of one request while it is under way. Those that have no outcome at its end, by whatever accident, go
// back.
class Dispatcher::Custody {
 public:
  Custody(Dispatcher& dispatcher, Line line)
      : dispatcher_(dispatcher),
        model_(dispatcher.models_[line.span->claim.model]),
        queue_(dispatcher.queue_of(line.span->claim)),
        batch_(line.span->claim.key.batch),
        began_(dispatcher.clock_.monotonic()) {
    ++model_.under_way;
    model_.slots.give(queue_.share, began_);
    add(std::move(line));
  }
  Custody(const Custody&) = delete;
  Custody& operator=(const Custody&) = delete;
  ~Custody() {
    --model_.under_way;
    model_.slots.take_back(queue_.share, began_, dispatcher_.clock_.monotonic());
    const auto batch = dispatcher_.active_.find(batch_);
    for (auto asked = lines.rbegin(); asked != lines.rend(); ++asked) {
      auto& [line, riders] = *asked;
      if (line.answer_key && batch != dispatcher_.active_.end()) batch->second.asking.erase(*line.answer_key);
      for (auto rider = riders.rbegin(); rider != riders.rend(); ++rider) {
        queue_.riding_bytes -= size_of(*rider);
        rider->body = line.body;
        rider->attempts = line.attempts;
        rider->deaths = line.deaths;
        give_back(std::move(*rider));
      }
      give_back(std::move(line));
    }
  }

  // Whether the line can be asked with the others in one request.
  bool takes(const Line& next) const {
    const Line& first = lines.front().line;
    return lines.size() < static_cast<std::size_t>(dispatcher_.options_.embedding_group) &&
           next.span->claim.key.batch == batch_ && can_be_grouped(request(first), request(next)) &&
           !retry::is_suspect(std::max(first.deaths, next.deaths), dispatcher_.options_.retry);
  }
  void add(Line line) {
    if (line.answer_key) dispatcher_.active(batch_).asking.emplace(*line.answer_key, this);
    lines.push_back({std::move(line), {}});
  }
  // It waits for the outcome of the line that asks the same.
  void ride(Line line) {
    const auto asked = std::find_if(lines.begin(), lines.end(),
                                    [&](const Asked& other) { return other.line.answer_key == line.answer_key; });
    queue_.riding_bytes += size_of(line);
    line.body.clear();
    asked->riders.push_back(std::move(line));
  }

  Line* operator->() { return &lines.front().line; }
  std::vector<EmbeddingRequest> requests() const {
    std::vector<EmbeddingRequest> all;
    for (const Asked& asked : lines) all.push_back(request(asked.line));
    return all;
  }

  std::vector<Asked> lines;
  Millis pause{1'000};

 private:
  static std::size_t size_of(const Line& line) { return sizeof line + line.bytes; }
  static EmbeddingRequest request(const Line& line) { return {line.body, line.input}; }
  void give_back(Line line) {
    if (!line.span || line.span->lost || dispatcher_.active(batch_).draining) return;
    if (pause > Millis{0}) {
      dispatcher_.retries_.emplace(dispatcher_.clock_.monotonic() + pause, std::move(line));
    } else {
      dispatcher_.push_front(std::move(line));
    }
  }

  Dispatcher& dispatcher_;
  Model& model_;
  Queue& queue_;  // stays, since it has a slot
  const BatchId batch_;
  const Moment began_;
};

void Dispatcher::start_lines() {
  for (auto& [name, model] : models_) {
    while (may_send() && start_line(name, model)) {
    }
  }
}

// Of the project whose turn it is, or of the next one that has a line for an engine that has room.
bool Dispatcher::start_line(const std::string& name, Model& model) {
  std::size_t to_come = 0;
  for (const auto& [project, queue] : model.queues) {
    to_come = queue.more_begun || to_come == Engines::kMany ? Engines::kMany : to_come + queue.lines.left();
  }
  for (const ProjectId& project : in_turn(model, [](const Queue& queue) { return !queue.lines.empty(); })) {
    Queue& queue = model.queues.at(project);
    LineQueue& lines = queue.lines;
    const auto has_line = [&](std::size_t engine) { return lines.has_line_for(engine); };
    const auto expect = [&](const Line& line) {
      return active(line.span->claim.key.batch).lengths.expect(line.output_max, line.body.size());
    };
    const bool suspect = lines.front() && retry::is_suspect(lines.front()->deaths, options_.retry);
    std::optional<Slot> slot = suspect ? engines_.acquire_alone(name) : engines_.acquire(name, has_line, to_come);
    if (!slot) continue;
    Line line = queue.more_begun ? lines.take(slot->number()) : lines.take(slot->number(), expect);
    if (share(line)) return true;
    const BatchId id = line.span->claim.key.batch;
    const Line* next = lines.front(slot->number());
    line.shared_ahead = next ? shared_prefix(line.body, next->body) : 0;
    auto custody = std::make_unique<Custody>(*this, std::move(line));
    while ((next = lines.front(slot->number())) && custody->takes(*next)) {
      Line more = lines.take(slot->number());
      if (!share(more)) custody->add(std::move(more));
    }
    active(id).attempts.spawn("line", attempt(std::move(custody), std::move(*slot)));
    return true;
  }
  return false;
}

std::vector<ProjectId> Dispatcher::in_turn(const Model& model, const std::function<bool(const Queue&)>& wanted) const {
  const Moment now = clock_.monotonic();
  std::vector<std::pair<double, ProjectId>> levels;
  for (const auto& [project, queue] : model.queues) {
    if (wanted(queue)) levels.emplace_back(model.slots.level(queue.share, now), project);
  }
  std::sort(levels.begin(), levels.end());
  std::vector<ProjectId> projects;
  for (auto& [level, project] : levels) projects.push_back(std::move(project));
  return projects;
}

bool Dispatcher::share(Line& line) {
  if (!line.answer_key) return false;
  Active& batch = active(line.span->claim.key.batch);
  if (const LineOutcome* known = batch.known.find(*line.answer_key)) {
    save_soon(line, *known);
    return true;
  }
  const auto asking = batch.asking.find(*line.answer_key);
  if (asking == batch.asking.end()) return false;
  asking->second->ride(std::move(line));
  return true;
}

Task<> Dispatcher::attempt(std::unique_ptr<Custody> custody, Slot slot) {
  Custody& line = *custody;
  const auto count = line.lines.size();
  if (retry::is_suspect(line->deaths, options_.retry)) {
    const bool served = co_await slot.alone(line->span->claim.model);
    const BatchId& id = line->span->claim.key.batch;  // which may have been stopped while we waited
    if (!served || !may_send() || line->span->lost || paused_.contains(id) || active(id).draining) {
      line.pause = Millis{0};
      co_return;
    }
  }
  std::optional<TraceContext> trace;  // of this attempt
  const Timestamp sent_at = clock_.now();
  if (is_traced(line.lines.front().line)) {
    trace = line_span(line->span->claim.key.batch, line->span->claim.traceparent, line->index);
    trace->span_id = random_span_id();
    if (line->first_sent == Timestamp{}) line->first_sent = sent_at;
  }
  const std::string traceparent = trace ? to_string(*trace) : std::string();
  const Moment sent = clock_.monotonic();
  const std::string together = count > 1 ? grouped_body(line.requests()) : std::string();
  const std::string_view body = count > 1 ? together : line->body;
  Answer answer = co_await slot.engine().send(line->span->claim.endpoint, body, line->shared_ahead, traceparent);
  if (trace) trace_attempt(*trace, line.lines.front().line, slot.engine().name(), sent_at, count, answer);
  const double random = std::uniform_real_distribution<>(0.0, 1.0)(random_);
  const auto took = (clock_.monotonic() - sent) / static_cast<long>(count);
  for (Asked& asked : line.lines) {
    asked.line.took += took;
    if (answer.kind == Answer::Kind::died) ++asked.line.deaths;
  }
  const retry::Past past{line->attempts + 1, line->deaths};
  retry::Verdict verdict = retry::judge(std::move(answer), past, random, options_.retry, answers_);
  const bool answered = verdict.outcome && !verdict.outcome->failed;
  slot.report(verdict.sign, verdict.hold, answered ? work(verdict.outcome->usage) : 0);
  if (verdict.outcome) slot.count(count, verdict.outcome->usage.output);
  line.pause = verdict.pause;
  if (!verdict.outcome) totals_.retries[static_cast<std::size_t>(verdict.reason)] += static_cast<std::int64_t>(count);
  if (count > 1) {
    finish_group(line, verdict);
  } else {
    if (verdict.counts) ++line->attempts;
    if (verdict.outcome) finish(line.lines.front(), std::move(*verdict.outcome));
  }
}

// What the group's answer says of it as a whole says nothing about any of its lines: unless each finds its vector
// there, each is sent alone, and no attempt is spent.
void Dispatcher::finish_group(Custody& group, retry::Verdict& verdict) {
  std::vector<std::string> bodies;
  if (verdict.outcome && !verdict.outcome->failed) bodies = split_answer(verdict.outcome->body, group.requests());
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    LineOutcome own;
    own.status = verdict.outcome->status;
    own.request_id = verdict.outcome->request_id;
    own.body = std::move(bodies[i]);
    own.usage = answers_.check(own.body).value();
    finish(group.lines[i], std::move(own));
  }
  if (!bodies.empty() || !verdict.counts) return;
  for (Asked& asked : group.lines) asked.line.input = {};
  group.pause = Millis{0};
}

bool Dispatcher::is_traced(const Line& line) const {
  return options_.tracer && options_.tracer->traces_line(line.span->claim.key.batch.value, line.index);
}

void Dispatcher::trace_attempt(const TraceContext& context, const Line& line, const std::string& engine, Timestamp sent,
                               std::size_t lines, const Answer& answer) {
  const ClaimedSpan& claim = line.span->claim;
  Span span{.context = context,
            .parent_id = line_span(claim.key.batch, claim.traceparent, line.index).span_id,
            .name = fmt::format("POST {}", claim.endpoint),
            .kind = Span::Kind::client,
            .start = sent,
            .end = clock_.now()};
  span.attributes = {{"penstock.engine", engine}, {"http.request.method", "POST"}};
  if (lines > 1) span.attributes.emplace_back("penstock.lines", static_cast<std::int64_t>(lines));
  if (answer.kind == Answer::Kind::response) {
    span.attributes.emplace_back("http.response.status_code", std::int64_t{answer.status});
    if (answer.status != 200) span.error = fmt::format("the engine answered {}", answer.status);
  } else {
    span.error = "the engine gave no answer";
  }
  options_.tracer->add(span);
}

void Dispatcher::trace_line(const Line& line, const LineOutcome& outcome) {
  const ClaimedSpan& claim = line.span->claim;
  Span span{.context = line_span(claim.key.batch, claim.traceparent, line.index),
            .parent_id = batch_span(claim.key.batch, claim.traceparent, "run").span_id,
            .name = "line",
            .start = line.first_sent,
            .end = clock_.now()};
  span.attributes = {{"penstock.line.index", std::int64_t{line.index}},
                     {"gen_ai.request.model", claim.model},
                     {"gen_ai.usage.input_tokens", outcome.usage.input},
                     {"gen_ai.usage.output_tokens", outcome.usage.output}};
  if (outcome.failed) span.error = outcome.error_code.empty() ? "the engine refused it" : outcome.error_code;
  options_.tracer->add(span);
}

void Dispatcher::finish(Asked& asked, LineOutcome outcome) {
  auto& [line, riders] = asked;
  if (line.first_sent != Timestamp{}) trace_line(line, outcome);
  const std::string& model = line.span->claim.model;
  Active& batch = active(line.span->claim.key.batch);
  batch.lengths.add(line.output_max, line.body.size(), outcome.usage.output);
  totals_.of(model).line_seconds.add(std::chrono::duration<double>(line.took).count());
  estimator_.add(model, {line.bytes, outcome.usage, line.took, models_[model].under_way});
  if (line.answer_key) {
    LineOutcome same = outcome;
    same.usage = {};  // the engine has worked on it once
    for (Line& rider : riders) {
      if (unsaved_bytes_ < kUnsavedBytesMax) save_soon(rider, same);  // the others go back
    }
    const bool lasts = same.status > 0 && same.status < 500;  // it would be said again
    if (lasts) batch.known.add(*line.answer_key, std::move(same));
  }
  save_soon(line, std::move(outcome));
}

void Dispatcher::save_soon(Line& line, LineOutcome outcome) {
  if (results_.empty()) oldest_result_ = clock_.monotonic();
  unsaved_bytes_ += outcome.body.size();
  ++active(line.span->claim.key.batch).unsaved;
  results_.push_back({std::move(line.span), line.index, std::move(line.custom_id_json), std::move(outcome)});
  if (results_.size() == 1 || results_.size() == options_.commit_lines) have_results_.notify();
}

bool Dispatcher::may_begin(const std::string& name, const Model& model, const ProjectId& project) const {
  const Queue& queue = model.queues.at(project);
  if (!queue.more_waiting || !queue.lines.empty()) return false;
  if (engines_.has_room(name)) return true;
  // Others have taken all: then it is this project's turn when these come after it.
  const auto turns = in_turn(model, [&](const Queue& other) { return &other == &queue || !other.lines.empty(); });
  return turns.size() > 1 && turns.front() == project;
}

Task<> Dispatcher::refill() {
  wake();  // after an accident there is something left to do
  while (true) {
    refilling_ = false;
    drained_while_refilling_.clear();
    co_await refill_wanted_.wait();
    refilling_ = true;
    if (stopping_ || disk_low_) continue;
    const bool shares =
        std::any_of(models_.begin(), models_.end(), [](const auto& item) { return item.second.queues.size() > 1; });
    const bool is_due = clock_.monotonic() >= looked_at_ + kLookAgain;
    if (store_is_away_ ? is_due : to_look_ || (shares && is_due)) co_await ask_store(look());
    for (const std::string& name : engines_.models()) {
      Model& model = models_[name];
      set_engines(name, model);  // they change their slots
      for (const ProjectId& project : in_turn(model, [](const Queue&) { return true; })) {
        if (stopping_ || disk_low_) break;
        Queue& queue = model.queues.at(project);
        if (queue.riding_bytes >= kRidingBytesMax / model.queues.size()) continue;
        if (!store_is_away_ && queue.lines.runs_dry() &&
            (queue.to_look || queue.more_begun || may_begin(name, model, project)))
          co_await ask_store(claim(name, project));
        co_await load(name, project);
      }
    }
  }
}

Task<> Dispatcher::ask_store(Task<> question) {
  try {
    co_await std::move(question);
    store_is_away_ = false;
  } catch (const sql::Failure& failure) {
    if (!std::exchange(store_is_away_, true)) log::warn("nothing is claimed for now: {}", failure.what());
    to_look_ = true;
    looked_at_ = clock_.monotonic();
    wake_.notify();  // to wake again when the next try is due
  }
}

// For which projects have work, and what their weights are. First, what a claim has brought that we did not hear of is
// given back.
Task<> Dispatcher::look() {
  to_look_ = false;  // unless wake() comes meanwhile
  looked_at_ = clock_.monotonic();
  if (unsure_) {
    std::set<SpanKey> mine;
    for (const auto& span : held()) mine.insert(span->claim.key);
    co_await db_.write([&](Store& store) {
      for (const SpanKey& key : store.held_spans(options_.worker)) {
        if (!mine.contains(key)) store.release_span(key, options_.worker);
      }
    });
    unsure_ = false;
  }
  const auto [work, projects] =
      co_await db_.read([&](Store& store) { return std::pair(store.work(clock_.now()), Access(store).projects()); });
  for (auto& [name, model] : models_) {
    for (auto& [project, queue] : model.queues) queue.to_look = queue.more_waiting = false;
  }
  for (const std::string& name : engines_.models()) {
    Model& model = models_[name];
    for (const Work& one : work) {
      if (one.model != name) continue;
      Queue& queue = model.queues[one.project];
      (one.begun ? queue.to_look : queue.more_waiting) = true;
    }
    for (const Project& project : projects) {
      const auto queue = model.queues.find(project.id);
      if (queue != model.queues.end()) queue->second.share.weight = project.weight;
    }
  }
  for (auto& [name, model] : models_) {
    std::erase_if(model.queues, [](const auto& item) {
      const Queue& queue = item.second;
      return !queue.to_look && !queue.more_waiting && queue.lines.left() == 0 && queue.share.slots == 0;
    });
  }
}

Task<> Dispatcher::claim(std::string model, ProjectId project) {
  const bool begin = may_begin(model, models_[model], project);
  {
    Queue& queue = models_[model].queues[project];
    queue.to_look = false;
    if (begin) queue.more_waiting = false;
  }
  const Claim wanted{.owner = options_.worker,
                     .model = model,
                     .lines = kClaimLines,
                     .workers = workers_,
                     .begin = begin,
                     .project = project};
  unsure_ = true;
  const auto spans = co_await db_.write([&](Store& store) {
    Spans claimed;
    for (ClaimedSpan& claim : store.claim_spans(wanted, clock_.now())) {
      auto span = std::make_shared<HeldSpan>();
      span->claim = std::move(claim);
      if (span->claim.finished > 0) span->finished = store.finished_indices(span->claim.key);
      span->unsaved = span->claim.count - span->claim.finished;
      std::sort(span->finished.begin(), span->finished.end());
      claimed.push_back(std::move(span));
    }
    // Last, since our beats wait for who asks. Others would never learn what the dead have claimed.
    if (!claimed.empty() && !store.lives(wanted.owner)) throw std::runtime_error("we are taken for dead");
    return claimed;
  });
  unsure_ = false;
  Queue& queue = models_[model].queues[project];
  queue.more_begun = !spans.empty();
  queue.more_waiting |= !spans.empty();
  claimed_.insert(claimed_.end(), spans.begin(), spans.end());
  queue.lines.add(spans);
  for (const auto& span : spans) {
    const BatchId& id = span->claim.key.batch;
    if (was_drained(id)) forget([&](const HeldSpan& other) { return other.claim.key.batch == id; });
    if (paused_.contains(id)) set_aside(id);
  }
}

// Loads the next lines that an engine will want.
Task<> Dispatcher::load(std::string model, ProjectId project) {
  const std::shared_ptr<Stretch> stretch = models_[model].queues[project].lines.next_to_read();
  if (!stretch) co_return;
  const std::size_t sharers = models_[model].queues.size();
  auto lines = co_await blocking(reading_, [&] { return loader_.load(*stretch, sharers); });
  wake_.notify();
  const BatchId& id = stretch->span->claim.key.batch;
  if (stretch->span->lost || was_drained(id)) co_return;
  models_[model].queues[project].lines.loaded(*stretch, std::move(lines));
  if (paused_.contains(id)) set_aside(id);
}

bool Dispatcher::was_drained(const BatchId& id) const {
  return std::find(drained_while_refilling_.begin(), drained_while_refilling_.end(), id) !=
         drained_while_refilling_.end();
}

// One transaction for all answers of the last commit_after, or commit_lines of them. What it could not save it keeps:
// after an exception it starts again with the same results, which may have been saved all the same.
Task<> Dispatcher::save() {
  while (true) {
    const bool again = !saving_.empty();
    if (!again) {
      while (results_.empty()) co_await have_results_.wait();
      while (results_.size() < options_.commit_lines && !stopping_) {
        const bool in_time = co_await have_results_.wait_until(clock_, oldest_result_ + options_.commit_after);
        if (!in_time) break;
      }
      auto end = results_.begin();
      for (std::size_t bytes = 0; end != results_.end(); ++end) {
        bytes += end->outcome.body.size();
        if (bytes > kGroupBytesMax && end != results_.begin()) break;
      }
      saving_.assign(std::move_iterator(results_.begin()), std::move_iterator(end));
      results_.erase(results_.begin(), end);
    }
    const metrics::Stopwatch watch;
    const Saved saved = co_await db_.write([&](Store& store) { return write_groups(store, again); });
    totals_.commit_seconds.add(watch.seconds());
    totals_.commit_lines.add(static_cast<double>(saving_.size()));
    lose(saved.refused);
    for (const Result& result : saving_) {
      const auto& refused = saved.refused;
      if (std::find(refused.begin(), refused.end(), result.span) == refused.end()) {
        Totals::Model& model = totals_.of(result.span->claim.model);
        ++(result.outcome.failed ? model.failed : model.completed);
        model.tokens += result.outcome.usage;
      }
      unsaved_bytes_ -= result.outcome.body.size();
      --result.span->unsaved;
      Active& batch = active(result.span->claim.key.batch);
      --batch.unsaved;
      batch.saved.notify();
    }
    saving_.clear();
    for (const BatchId& id : saved.finished) {
      if (const auto it = active_.find(id); it->second.attempts.size() == 0 && !it->second.draining) active_.erase(it);
      batch_done_(id);
    }
    wake_.notify();
    if (stopping_) quiet_.notify();
  }
}

// On the store's thread.
Dispatcher::Saved Dispatcher::write_groups(Store& store, bool again) const {
  struct Part {
    ResultGroup group;
    std::int64_t results = 0;
    std::vector<std::uint32_t> saved;
  };
  // By batch and span: who saves for several batches locks them in one order.
  const auto in_order = [](const auto& a, const auto& b) {
    return std::tie(a->claim.key, a->claim.token) < std::tie(b->claim.key, b->claim.token);
  };
  std::map<std::shared_ptr<HeldSpan>, Part, decltype(in_order)> parts(in_order);
  for (const Result& result : saving_) {
    const auto [place, is_new] = parts.try_emplace(result.span);
    auto& [group, results, saved] = place->second;
    if (is_new && again) saved = store.finished_indices(result.span->claim.key);
    ++results;
    if (std::find(saved.begin(), saved.end(), result.index) != saved.end()) continue;
    const std::size_t before = group.lines.size();
    append_output_line(group.lines, result.span->claim.key.batch, result.index, result.custom_id_json, result.outcome);
    group.entries.push_back(
        {result.index, static_cast<std::uint32_t>(group.lines.size() - before), result.outcome.failed});
    group.usage += result.outcome.usage;
  }
  Saved saved;
  std::set<BatchId> ended_a_span;
  for (auto& [span, part] : parts) {
    ResultGroup& group = part.group;
    group.span = span->claim.key;
    group.token = span->claim.token;
    if (!group.entries.empty() && !store.save_results(group)) {
      saved.refused.push_back(span);
    } else if (span->unsaved == part.results) {
      ended_a_span.insert(group.span.batch);
    }
  }
  for (const BatchId& id : ended_a_span) {
    if (store.remaining(id) > 0) continue;
    saved.finished.push_back(id);
    store.notify(id);
  }
  return saved;
}

Dispatcher::Spans Dispatcher::held() {
  Spans spans;
  std::erase_if(claimed_, [&](const std::weak_ptr<HeldSpan>& claimed) {
    if (auto span = claimed.lock(); span && !span->lost) spans.push_back(std::move(span));
    return claimed.expired();
  });
  return spans;
}

void Dispatcher::lose(const Spans& spans) {
  for (const auto& span : spans) {
    log::warn(log::batch(span->claim.key.batch.value), "span {} is not ours any more", span->claim.key.number);
    span->lost = true;
    ++totals_.spans_lost;
  }
  if (!spans.empty()) forget([](const HeldSpan& span) { return span.lost; });
}

void Dispatcher::lose_all() {
  lose(held());
}

std::int64_t Dispatcher::waiting(const std::string& model) const {
  std::size_t lines = 0;
  const auto found = models_.find(model);
  if (found == models_.end()) return 0;
  for (const auto& [project, queue] : found->second.queues) lines += queue.lines.left();
  return static_cast<std::int64_t>(lines);
}

std::set<BatchId> Dispatcher::batches() {
  std::set<BatchId> ids;
  for (const auto& span : held()) ids.insert(span->claim.key.batch);
  for (const auto& [id, batch] : active_) ids.insert(id);
  for (const auto& [id, aside] : paused_) ids.insert(id);
  return ids;
}

void Dispatcher::forget(const std::function<bool(const HeldSpan&)>& gone) {
  for (auto& [name, model] : models_) {
    for (auto& [project, queue] : model.queues) queue.lines.remove(gone);
  }
  std::erase_if(retries_, [&](const auto& item) { return gone(*item.second.span); });
  for (auto& [id, aside] : paused_) {
    std::erase_if(aside.lines, [&](const Line& line) { return gone(*line.span); });
    std::erase_if(aside.stretches, [&](const auto& stretch) { return gone(*stretch->span); });
  }
}

Task<> Dispatcher::drain(BatchId id, Millis grace) {
  if (refilling_) drained_while_refilling_.push_back(id);
  forget([&](const HeldSpan& span) { return span.claim.key.batch == id; });
  paused_.erase(id);

  const auto found = active_.find(id);
  if (found == active_.end()) co_return;
  Active& batch = found->second;  // while it is draining, only we remove it
  batch.draining = true;
  co_await batch.attempts.join_until(clock_, clock_.monotonic() + grace);
  batch.attempts.cancel();
  co_await batch.attempts.join();
  while (batch.unsaved > 0) co_await batch.saved.wait();
  active_.erase(id);
}

Task<> Dispatcher::stop(Millis patience) {
  stopping_ = true;
  const Moment end = clock_.monotonic() + patience;
  while (engines_.in_flight() > 0) {
    const bool in_time = co_await quiet_.wait_until(clock_, end);
    if (!in_time) break;
  }
  for (auto& [id, batch] : active_) batch.attempts.cancel();
  while (engines_.in_flight() > 0) co_await quiet_.wait();
  have_results_.notify();
  while (!results_.empty() || !saving_.empty()) {
    const bool in_time = co_await quiet_.wait_until(clock_, end + kLastSave);
    if (!in_time) {
      log::error("{} answers could not be saved; their lines will run again", results_.size() + saving_.size());
      break;
    }
  }
  tasks_.cancel();
  co_await tasks_.join();
  try {
    co_await db_.write([&](Store& store) { store.release_spans(options_.worker); });
  } catch (const std::exception& e) {
    log::error("what is held could not be given back; others will see that we are gone: {}", e.what());
  }
}

}  // namespace penstock
