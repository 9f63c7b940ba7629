#include "batch/lifecycle.h"

#include "base/log.h"
#include "batch/assemble.h"
#include "batch/batch_trace.h"
#include "batch/kept_answers.h"
#include "batch/plan.h"
#include "batch/validate.h"

namespace penstock {
namespace {

constexpr std::int64_t kPurgeAtOnce = 64;
constexpr Millis kSparePeriod{60'000};  // engines lose what they have of prompts that are still to come, too
constexpr Millis kForgetPeriod{1'000};  // at most so often, since that stops the database for a moment
constexpr Millis kLeaveSlack{2'000};    // for other workers to say that their lines have ended

// What is wrong with an engine tells of the machines: that is for the log.
Assembler::Missing missing_lines(BatchStatus end) {
  if (end == BatchStatus::expired) {
    return {"batch_expired", "This request could not be executed before the completion window expired."};
  }
  if (end == BatchStatus::completed) {
    return {
        "model_unavailable",
        "No engine serves the model of this request any more. Whoever runs the server finds the reason in its log."};
  }
  return {"batch_cancelled", "This request was not executed because the batch was cancelled."};
}

}  // namespace

Lifecycle::Lifecycle(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, Engines& engines,
                     Dispatcher* dispatcher, Options options)
    : loop_(loop),
      clock_(clock),
      db_(db),
      blobs_(blobs),
      engines_(engines),
      dispatcher_(dispatcher),
      options_(std::move(options)),
      ended_(loop),
      looking_(loop),
      tasks_(loop) {
  engines_.on_change.push_back([this] {
    for (auto& [id, changed] : changed_) changed.notify();
  });
}

Task<> Lifecycle::resume() {
  co_await adopt();
  tasks_.keep("removing old results", clock_, [this] { return purge(); });
  if (dispatcher_) tasks_.keep("batches of others", clock_, [this] { return watch(); });
}

// Ours may be one whose creation nobody could be told of, since the reply to its COMMIT was lost.
Task<> Lifecycle::adopt() {
  const auto ids = co_await db_.write([this](Store& store) { return store.adopt_batches(options_.process); });
  for (const BatchId& id : ids) start(id);
}

void Lifecycle::start(const BatchId& id) {
  if (stopping_) return;  // it stays ours until we are buried
  const bool is_new = changed_.try_emplace(id, loop_).second;
  if (is_new) tasks_.keep("batch", clock_, [this, id] { return drive(id); });
}

void Lifecycle::notify(const BatchId& id) {
  if (const auto it = changed_.find(id); it != changed_.end()) it->second.notify();
  if (on_work) on_work();
}

void Lifecycle::look(const BatchId& id) {
  notify(id);
  looking_.notify();
}

void Lifecycle::look() {
  for (auto& [id, changed] : changed_) changed.notify();
  if (on_work) on_work();
  looking_.notify();
}

void Lifecycle::set_paused(const BatchId& id, bool paused) {
  ++pauses_;
  if (dispatcher_) dispatcher_->set_paused(id, paused);
  notify(id);
}

Task<> Lifecycle::stop() {
  stopping_ = true;
  tasks_.cancel();
  co_await tasks_.join();
}

// The life of one batch. Each step ends with a compare-and-set of the status, or finds that somebody else has set it.
Task<> Lifecycle::drive(BatchId id) {
  while (true) {
    std::optional<Batch> batch = co_await db_.read([&](Store& store) { return store.find_batch(id); });
    if (!batch || is_terminal(batch->status)) break;
    if (batch->driver != options_.process) {
      changed_.erase(id);
      co_return;
    }
    const bool late = clock_.now() >= batch->expires_at && batch->status != BatchStatus::cancelling;
    if (late) {
      co_await finalize(*batch, BatchStatus::expired);
    } else if (batch->status == BatchStatus::validating) {
      co_await validate(*batch);
    } else if (batch->status == BatchStatus::in_progress) {
      co_await run(*batch);
    } else if (batch->status == BatchStatus::finalizing) {
      co_await finalize(*batch, BatchStatus::completed);
    } else {
      co_await finalize(*batch, BatchStatus::cancelled);
    }
  }
  if (options_.tracer) co_await trace(id);
  set_paused(id, false);  // it may have ended while it was paused
  changed_.erase(id);
  if (on_end) on_end(id);
  ended_.notify();
}

// An input file is checked as it comes. Only one with a fault is read again, against the rules of its batch, to tell of
// all that is wrong with it.
Task<Lifecycle::Checked> Lifecycle::check_input(const Batch& batch) {
  ValidationRules rules{
      .endpoint = batch.endpoint, .lines_max = options_.batch_lines_max, .models = engines_.known_models()};
  const auto file = co_await db_.read(
      [&](Store& store) { return store.find_file(batch.project, batch.input_file_id, clock_.now()); });
  if (file && file->checked && file->checked->endpoint == rules.endpoint &&
      (rules.lines_max == 0 || file->checked->lines <= rules.lines_max) &&
      (!rules.models || rules.models->contains(file->checked->model))) {
    co_return Checked{.model = file->checked->model, .total = file->checked->lines, .errors = {}};
  }
  Validated found = co_await blocking(pool_, [&] {
    const auto input = blobs_.open(batch.input_file_id.value);
    if (!input) throw std::runtime_error("the input file of an unfinished batch is gone");
    Validated result = penstock::validate(*input, std::move(rules));
    // One that is there stays: another batch's spans may name its entries, and it may be of a version that orders
    // otherwise.
    if (result.error_total == 0 && !blobs_.open(plan_key(batch.input_file_id))) {
      write_plan(blobs_, batch.input_file_id, result.entries);
    }
    return result;
  });
  co_return Checked{.model = std::move(found.model),
                    .total = static_cast<std::int64_t>(found.entries.size()),
                    .errors = std::move(found.errors),
                    .error_total = found.error_total};
}

Task<> Lifecycle::validate(Batch batch) {
  const Timestamp start = clock_.now();
  const Checked checked = co_await check_input(batch);
  if (checked.error_total == 0 && batch.retry_of) {
    const bool ours = co_await keep_answers(batch, checked.total);
    if (!ours) co_return;
  }
  const Timestamp now = clock_.now();
  const bool moved = co_await db_.write([&](Store& store) {
    if (!store.drives(options_.process, batch.id)) return false;
    if (checked.error_total > 0) return store.fail_batch(batch.id, checked.errors, checked.error_total, now);
    return store.start_batch(batch.id, checked.model, checked.total);
  });
  if (moved) {
    if (checked.error_total > 0) ++ends_[BatchStatus::failed];
    std::optional<std::string> error;
    if (checked.error_total > 0) error = fmt::format("{} errors", checked.error_total);
    if (options_.tracer) trace_validation(*options_.tracer, batch, start, now, error);
    log::info(log::batch(batch.id.value), "{}",
              checked.error_total > 0 ? fmt::format("failed validation with {} errors", checked.error_total)
                                      : fmt::format("{} lines for {}", checked.total, checked.model));
  }
  if (dispatcher_) dispatcher_->wake();
  if (on_work) on_work();
}

// The good answers of the batch that this one retries become its own, before any line is sent or, if it never starts,
// before its files are written. A restart in the middle begins anew.
Task<bool> Lifecycle::keep_answers(const Batch& batch, std::int64_t total) {
  const auto [ours, begun] = co_await db_.write([&](Store& store) {
    const bool drives = store.drives(options_.process, batch.id);
    return std::pair(drives, drives && store.begin_retry(batch.id, total));
  });
  if (!begun) co_return ours;
  const auto old = co_await db_.read([&](Store& store) { return store.find_batch(*batch.retry_of); });
  if (!old->output_file_id) co_return true;
  std::optional<KeptAnswers> answers;
  co_await blocking(pool_, [&] {
    auto output = blobs_.open(old->output_file_id->value);
    const auto plan = blobs_.open(plan_key(batch.input_file_id));
    if (!output || !plan) throw std::runtime_error("the output file or the plan of a retried batch is gone");
    answers.emplace(std::move(output), *plan);
  });
  Usage usage = old->usage;  // of all answers together
  while (true) {
    auto groups = co_await blocking(pool_, [&] { return answers->next(); });
    if (groups.empty()) co_return true;
    groups.front().usage = std::exchange(usage, {});
    const bool still_ours = co_await db_.write([&](Store& store) {
      if (!store.drives(options_.process, batch.id)) return false;
      for (ResultGroup& group : groups) {
        group.span.batch = batch.id;
        if (!store.save_results(group)) throw std::runtime_error("answers of a retried batch were refused");
      }
      return true;
    });
    if (!still_ours) co_return false;
  }
}

Task<> Lifecycle::run(Batch batch) {
  const BatchId id = batch.id;
  std::optional<Moment> gone_since;  // its model, while it waits for that
  while (true) {
    if (batch.paused_at || !engines_.is_gone(*batch.model)) {
      gone_since.reset();
    } else if (!gone_since) {
      gone_since = clock_.monotonic();
    }
    const bool give_up = gone_since && clock_.monotonic() - *gone_since >= options_.model_wait;
    if (give_up) {
      log::warn(log::batch(id.value), "no engine serves {} any more. {}", *batch.model, engines_.trouble(*batch.model));
    }
    if (give_up || batch.counts.completed + batch.counts.failed == batch.counts.total) {
      const bool done = co_await db_.write([&](Store& store) {
        return store.drives(options_.process, id) &&
               store.advance(id, BatchStatus::in_progress, BatchStatus::finalizing, clock_.now());
      });
      if (done) co_return;
    }
    Moment until = clock_.monotonic() + (batch.expires_at - clock_.now());
    if (gone_since) until = std::min(until, *gone_since + options_.model_wait);
    co_await changed_.at(id).wait_until(clock_, until);
    if (clock_.now() >= batch.expires_at) co_return;
    auto now = co_await db_.read([&](Store& store) { return store.find_batch(id); });
    if (!now || now->status != BatchStatus::in_progress || now->driver != options_.process) co_return;
    batch = std::move(*now);
  }
}

// What others have done to batches of which lines are here.
Task<> Lifecycle::watch() {
  while (true) {
    co_await looking_.wait();
    for (const BatchId& id : dispatcher_->batches()) {
      const std::uint64_t pauses = pauses_;
      const auto state = co_await db_.read([&](Store& store) { return store.batch_state(id); });
      if (state && state->status == BatchStatus::in_progress) {
        if (pauses == pauses_ && state->paused != dispatcher_->is_paused(id))
          dispatcher_->set_paused(id, state->paused);
      } else if (!stopping_ && !changed_.contains(id) && leaving_.insert(id).second) {
        tasks_.keep("leaving a batch", clock_, [this, id] { return leave(id); });
      }
    }
  }
}

// It is another process's, and ends: that one waits until our lines have.
Task<> Lifecycle::leave(BatchId id) {
  const auto state = co_await db_.read([&](Store& store) { return store.batch_state(id); });
  const bool cancelling = state && state->status == BatchStatus::cancelling;
  co_await dispatcher_->drain(id, cancelling ? options_.cancel_grace : Millis{0});
  co_await db_.write([&](Store& store) { store.release_spans(options_.process, id); });
  leaving_.erase(id);
  notify(id);  // it may have become ours meanwhile
}

Task<> Lifecycle::let_others_leave(BatchId id, Moment until) {
  while (clock_.monotonic() < until) {
    const auto held = co_await db_.read([&](Store& store) { return store.count_held_by_others(id, options_.process); });
    if (held == 0) co_return;
    co_await changed_.at(id).wait_until(clock_, until);
  }
}

Task<> Lifecycle::finalize(Batch batch, BatchStatus end) {
  if (end != BatchStatus::completed || batch.counts.completed + batch.counts.failed < batch.counts.total) {
    const Millis grace = end == BatchStatus::cancelled ? options_.cancel_grace : Millis{0};
    const Moment grace_ends = clock_.monotonic() + grace;
    while (leaving_.contains(batch.id)) co_await changed_.at(batch.id).wait();
    if (dispatcher_) co_await dispatcher_->drain(batch.id, grace);
    if (grace > Millis{0}) co_await let_others_leave(batch.id, grace_ends + kLeaveSlack);
    const bool ours = co_await db_.write([&](Store& store) {
      const bool drives = store.drives(options_.process, batch.id);
      if (drives) store.fence(batch.id);
      return drives;
    });
    if (!ours) co_return;
  }
  if (!batch.model) {  // it ends before its validation did, and tells of its lines all the same
    const Checked checked = co_await check_input(batch);
    batch.counts.total = checked.error_total > 0 ? 0 : checked.total;
    if (batch.counts.total > 0 && batch.retry_of) {
      const bool ours = co_await keep_answers(batch, checked.total);
      if (!ours) co_return;
    }
  }
  std::optional<Assembler> assembler;
  assembler.emplace(blobs_, batch, options_.scratch_directory);
  const std::int64_t size = span_lines(batch.counts.total), at_once = kSpanLines / size;
  for (std::int64_t span = 0; span * size < batch.counts.total; span += at_once) {
    co_await db_.read([&](Store& store) {
      store.for_each_group(batch.id, [&](const ResultGroup& group) { assembler->add(group); }, {span, span + at_once});
    });
  }
  const Assembler::Missing missing = missing_lines(end);
  // Who has been away for long must not write over what another has finished.
  const auto now = co_await db_.read([&](Store& store) { return store.find_batch(batch.id); });
  if (!now || now->status != batch.status || now->driver != options_.process) co_return;
  const Assembler::Assembled files = co_await blocking(pool_, [&] { return assembler->finish(missing, clock_.now()); });
  assembler.reset();
  const bool ended = co_await db_.write([&](Store& store) {
    return store.drives(options_.process, batch.id) &&
           store.finish_batch(batch.id, batch.status, {end, files.output, files.errors, files.counts}, clock_.now());
  });
  if (!ended) co_return;  // its status has changed meanwhile: look again
  ++ends_[end];
  log::info(log::batch(batch.id.value), "{}, {} lines answered, {} failed", to_string(end), files.counts.completed,
            files.counts.failed);
}

Task<> Lifecycle::trace(BatchId id) {
  const auto ended = co_await db_.read([&](Store& store) { return store.find_batch(id); });
  if (ended) trace_batch(*options_.tracer, *ended);
}

void Lifecycle::forget_deleted() {
  to_forget_ = to_spare_ = true;
  ended_.notify();
}

// In small bites, so that nobody waits long for the store.
Task<> Lifecycle::purge() {
  while (true) {
    const Timestamp due = clock_.now() - kResultsKept;
    const Moment asked = clock_.monotonic();
    const auto ended = co_await db_.read([](Store& store) { return store.first_end_with_results(); });
    if (ended && *ended <= due) {
      co_await db_.write([&](Store& store) { store.purge_results(due, kPurgeAtOnce); });
      to_forget_ = true;
      continue;
    }
    if (to_forget_ && asked >= forget_at_) {
      forget_at_ = asked + kForgetPeriod;
      to_forget_ = false;
      const bool forgotten = co_await db_.forget_deleted();
      if (!forgotten) to_forget_ = true;
    }
    if (to_spare_ && asked >= spare_at_) {
      spare_at_ = asked + kSparePeriod;
      to_spare_ = false;
      engines_.spare_disk();
    }
    const Moment next = asked + (ended ? *ended - due : kResultsKept);  // others may end batches and go
    bool is_due = false;
    while (!is_due) {
      Moment until = next;
      if (to_forget_) until = std::min(until, forget_at_);
      if (to_spare_) until = std::min(until, spare_at_);
      const bool told = co_await ended_.wait_until(clock_, until);
      is_due = !told || !ended || to_forget_;  // behind the first end no later one matters
    }
  }
}

}  // namespace penstock
