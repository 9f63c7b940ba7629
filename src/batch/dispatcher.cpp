#include "batch/dispatcher.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "engine/prefix_slots.h"

namespace penstock {
namespace {

constexpr std::size_t kUnsavedBytesMax = 64 << 20;  // of answers: while the store is away, no line is sent past this
constexpr std::size_t kGroupBytesMax = 8 << 20;     // saved in one transaction, unless one answer is larger
constexpr std::int64_t kSpansAClaim = 4;
constexpr Millis kLastSave{5'000};  // for the last answers, when lines took all the time there was

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
      loader_(blobs),
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
  tasks_.keep("leases", clock_, [this] { return heartbeat(); });
}

void Dispatcher::wake() {
  for (auto& [model, queue] : queues_) queue.more_begun = queue.more_waiting = true;
  wake_.notify();
}

void Dispatcher::engines_changed() {
  for (const std::string& model : engines_.models()) queues_[model];
  for (auto& [model, queue] : queues_) queue.lines.set_engines(engines_.serving(model));
  wake_.notify();
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
  return due;
}

void Dispatcher::push_front(Line line) {
  if (const auto paused = paused_.find(line.span->claim.key.batch); paused != paused_.end()) {
    return paused->second.lines.push_front(std::move(line));
  }
  queues_[line.span->claim.model].lines.push_front(std::move(line));
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
      queues_[any.claim.model].lines.restore(std::move(parts));
    }
  }
  wake();
}

void Dispatcher::set_aside(const BatchId& id) {
  LineQueue::Parts& aside = paused_[id];
  for (auto& [model, queue] : queues_) {
    aside.append(queue.lines.remove([&](const HeldSpan& span) { return span.claim.key.batch == id; }));
  }
}

void Dispatcher::set_disk_low(bool low) {
  disk_low_ = low;
  wake();
}

Dispatcher::Active& Dispatcher::active(const BatchId& id) {
  return active_.try_emplace(id, loop_).first->second;
}

// Not when our leases are about to end, whatever keeps us from renewing them: others may send these lines then.
bool Dispatcher::may_send() const {
  return !stopping_ && !disk_low_ && unsaved_bytes_ < kUnsavedBytesMax &&
         clock_.monotonic() + options_.lease / 5 < lease_until_;
}

void Dispatcher::start_lines() {
  for (auto& [model, queue] : queues_) {
    LineQueue& lines = queue.lines;
    const auto has_line = [&](std::size_t engine) { return lines.has_line_for(engine); };
    const auto expect = [&](const Line& line) { return active(line.span->claim.key.batch).lengths.expect(line.body); };
    while (may_send() && !lines.empty()) {
      const std::size_t to_come = queue.more_begun ? Engines::kMany : lines.left();
      const bool suspect = lines.front() && retry::is_suspect(lines.front()->deaths, options_.retry);
      std::optional<Slot> slot = suspect ? engines_.acquire_alone(model) : engines_.acquire(model, has_line, to_come);
      if (!slot) break;
      Line line = queue.more_begun ? lines.take(slot->number()) : lines.take(slot->number(), expect);
      const Line* next = lines.next(slot->number());
      line.shared_ahead = next ? shared_prefix(line.body, next->body) : 0;
      ++queue.under_way;
      active(line.span->claim.key.batch).attempts.spawn("line", attempt(std::move(line), std::move(*slot)));
    }
  }
}

// Holds a line while it is under way. One whose attempt ended without an outcome, by whatever accident, goes back.
class Dispatcher::Custody {
 public:
  Custody(Dispatcher& dispatcher, Line line)
      : dispatcher_(dispatcher), queue_(dispatcher.queues_[line.span->claim.model]), line_(std::move(line)) {}
  Custody(const Custody&) = delete;
  Custody& operator=(const Custody&) = delete;
  ~Custody() {
    --queue_.under_way;
    if (!line_.span || line_.span->lost || dispatcher_.active(line_.span->claim.key.batch).draining) return;
    if (pause > Millis{0}) {
      dispatcher_.retries_.emplace(dispatcher_.clock_.monotonic() + pause, std::move(line_));
    } else {
      dispatcher_.push_front(std::move(line_));
    }
  }
  Line* operator->() { return &line_; }

  Millis pause{1'000};

 private:
  Dispatcher& dispatcher_;
  Queue& queue_;  // stays: queues are never removed
  Line line_;
};

Task<> Dispatcher::attempt(Line line_under_way, Slot slot) {
  Custody line(*this, std::move(line_under_way));
  if (retry::is_suspect(line->deaths, options_.retry)) {
    const bool served = co_await slot.alone(line->span->claim.model);
    const BatchId& id = line->span->claim.key.batch;  // which may have been stopped while we waited
    if (!served || !may_send() || line->span->lost || paused_.contains(id) || active(id).draining) {
      line.pause = Millis{0};
      co_return;
    }
  }
  const Moment sent = clock_.monotonic();
  Answer answer = co_await slot.engine().send(line->span->claim.endpoint, line->body, line->shared_ahead);
  const double random = std::uniform_real_distribution<>(0.0, 1.0)(random_);
  if (answer.kind == Answer::Kind::died) ++line->deaths;
  const retry::Past past{line->attempts + 1, line->deaths};
  retry::Verdict verdict = retry::judge(std::move(answer), past, random, options_.retry, answers_);
  const Moment now = clock_.monotonic();
  const bool answered = verdict.outcome && !verdict.outcome->failed;
  slot.report(verdict.sign, verdict.hold, answered ? work(verdict.outcome->usage) : 0);
  if (verdict.counts) ++line->attempts;
  line->took += now - sent;
  line.pause = verdict.pause;
  if (!verdict.outcome) co_return;
  const std::string& model = line->span->claim.model;
  Active& batch = active(line->span->claim.key.batch);
  batch.lengths.add(line->body, verdict.outcome->usage.output);
  estimator_.add(model, {line->bytes, verdict.outcome->usage, line->took, queues_[model].under_way});
  if (results_.empty()) oldest_result_ = now;
  unsaved_bytes_ += verdict.outcome->body.size();
  ++batch.unsaved;
  results_.push_back(
      {std::move(line->span), line->index, std::move(line->custom_id_json), std::move(*verdict.outcome)});
  if (results_.size() == 1 || results_.size() == options_.commit_lines) have_results_.notify();
}

bool Dispatcher::may_begin(const std::string& model, const Queue& queue) const {
  return queue.more_waiting && queue.lines.empty() && engines_.has_room(model);
}

Task<> Dispatcher::refill() {
  while (true) {
    refilling_ = false;
    drained_while_refilling_.clear();
    co_await refill_wanted_.wait();
    refilling_ = true;
    for (const std::string& model : engines_.models()) {
      if (stopping_ || disk_low_) break;
      Queue& queue = queues_[model];
      queue.lines.set_engines(engines_.serving(model));  // they change their slots
      if (queue.lines.runs_dry() && (queue.more_begun || may_begin(model, queue))) co_await claim(model);
      co_await load(model);
    }
  }
}

Task<> Dispatcher::claim(std::string model) {
  const bool begin = may_begin(model, queues_[model]);
  queues_[model].more_begun = false;  // unless wake() comes meanwhile, or the claim finds some
  if (begin) queues_[model].more_waiting = false;
  const Moment now = clock_.monotonic();
  const auto mine = held();
  Spans lost;
  const auto spans = co_await db_.write([&](Store& store) {
    // Renewed first, so that no pause of ours, however long, makes us claim what we hold.
    lost = renew(store, mine, now + options_.lease);
    Spans claimed;
    for (ClaimedSpan& claim :
         store.claim_spans(options_.worker, model, kSpansAClaim, begin, now, now + options_.lease, clock_.now())) {
      auto span = std::make_shared<HeldSpan>();
      span->claim = std::move(claim);
      if (span->claim.finished > 0) span->finished = store.finished_indices(span->claim.key);
      span->unsaved = span->claim.count - span->claim.finished;
      std::sort(span->finished.begin(), span->finished.end());
      claimed.push_back(std::move(span));
    }
    return claimed;
  });
  renewed(lost, now + options_.lease);
  Queue& queue = queues_[model];
  queue.more_begun |= !spans.empty();
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
Task<> Dispatcher::load(std::string model) {
  const std::shared_ptr<Stretch> stretch = queues_[model].lines.next_to_read();
  if (!stretch) co_return;
  auto lines = co_await blocking(reading_, [&] { return loader_.load(*stretch); });
  wake_.notify();
  const BatchId& id = stretch->span->claim.key.batch;
  if (stretch->span->lost || was_drained(id)) co_return;
  queues_[model].lines.loaded(*stretch, std::move(lines));
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
    const Saved saved = co_await db_.write([&](Store& store) { return write_groups(store, again); });
    lose(saved.refused);
    for (const Result& result : saving_) {
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
  std::map<std::shared_ptr<HeldSpan>, Part> parts;
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
    if (store.remaining(id) == 0) saved.finished.push_back(id);
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

// On the store's thread. One by one: a claim whose COMMIT was not confirmed is in the store under our name, and nobody
// works on it, so its lease must end.
Dispatcher::Spans Dispatcher::renew(Store& store, Spans spans, Moment until) {
  std::erase_if(spans, [&](const auto& span) { return store.renew_lease(span->claim.key, span->claim.token, until); });
  return spans;
}

void Dispatcher::renewed(const Spans& lost, Moment until) {
  lease_until_ = std::max(lease_until_, until);
  lose(lost);
}

void Dispatcher::lose(const Spans& spans) {
  for (const auto& span : spans) {
    log::warn("batch {}: span {} is not ours any more", span->claim.key.batch.value, span->claim.key.number);
    span->lost = true;
  }
  if (!spans.empty()) forget([](const HeldSpan& span) { return span.lost; });
}

Task<> Dispatcher::heartbeat() {
  while (true) {
    co_await sleep_until(clock_, clock_.monotonic() + options_.lease / 3);
    if (const auto mine = held(); !mine.empty()) {
      const Moment until = clock_.monotonic() + options_.lease;
      const Spans lost = co_await db_.write([&](Store& store) { return renew(store, mine, until); });
      renewed(lost, until);
    }
    wake();  // leases of others may have ended
  }
}

void Dispatcher::forget(const std::function<bool(const HeldSpan&)>& gone) {
  for (auto& [model, queue] : queues_) queue.lines.remove(gone);
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
    co_await db_.write([&](Store& store) { store.release_leases(options_.worker); });
  } catch (const std::exception& e) {
    log::error("leases could not be given back, and will end by themselves: {}", e.what());
  }
}

}  // namespace penstock
