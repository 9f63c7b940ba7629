#include "batch/estimate.h"

#include <algorithm>
#include <cmath>

namespace penstock {
namespace {

constexpr double kMemorySeconds = 30, kMemoryLines = 100;
// A token of a prompt against one of an answer. It is near 1 where computing is all there is to a token (llama-server
// on a CPU: bench/README.md), and a small part of that where answers wait for memory, as on a GPU. This lies between.
// It matters only for a batch of other proportions than those before it, until its own lines are measured.
constexpr double kPromptWeight = 0.25;
constexpr double kGuess = 1;  // lines a second
// As many lines of its own as are under way at a time, twice, make a batch's own mean count half: the first that are
// answered are the short ones.
constexpr double kRounds = 2;

// The batch's lines so far, taken for equal and answered one after the other.
Pace own_pace(const Batch& batch, Timestamp now) {
  Pace own;
  own.lines = own.under_way = static_cast<double>(batch.counts.completed + batch.counts.failed);
  if (own.lines == 0) return own;
  own.bytes = own.lines * static_cast<double>(batch.input_bytes) / static_cast<double>(batch.counts.total);
  own.prompt = static_cast<double>(batch.usage.input - batch.usage.cached);
  own.answer = static_cast<double>(batch.usage.output);
  own.work_squared = own.work() * own.work() / own.lines;
  own.seconds = std::chrono::duration<double>(now - batch.in_progress_at.value_or(now)).count();
  return own;
}

// Of a line that the batch has still to do.
double work_per_line(const Batch& batch, const Pace& own, const Pace& model) {
  if (model.lines == 0) return 1;
  const double bytes =
      static_cast<double>(batch.input_bytes) / static_cast<double>(std::max<std::int64_t>(batch.counts.total, 1));
  const double longer = model.bytes > 0 && bytes > 0 ? bytes * model.lines / model.bytes : 1;
  const double expected = 1 + (kPromptWeight * model.prompt * longer + model.answer) / model.lines;
  const double weight = kRounds * model.slots();
  return (expected * weight + own.work()) / (weight + own.lines);
}

// How much longer than an average line the last of `lines` takes that are under way together, in average lines. So it
// is where lengths are spread exponentially, and nil where they are all the same.
double straggling(const Pace& model, double lines) {
  const double spread = model.lines * model.work_squared / (model.work() * model.work()) - 1;
  return lines > 1 && spread > 0 ? spread * std::log(lines) : 0;
}

}  // namespace

double work(const Usage& usage) {
  return 1 + kPromptWeight * static_cast<double>(usage.input - usage.cached) + static_cast<double>(usage.output);
}

double Pace::work() const {
  return lines + kPromptWeight * prompt + answer;
}

double Pace::work_per_second() const {
  return lines > 0 ? work() / std::max(seconds, 0.001) * slots() : kGuess;
}

double Pace::slots() const {
  return lines > 0 ? under_way / lines : 1;
}

Pace together(const Pace& a, const Pace& b) {
  if (a.lines == 0 || b.lines == 0) return a.lines == 0 ? b : a;
  Pace both = a;
  for (double Pace::*sum : {&Pace::lines, &Pace::bytes, &Pace::prompt, &Pace::answer, &Pace::work_squared}) {
    both.*sum += b.*sum;
  }
  const double slots = a.slots() + b.slots();
  both.under_way = both.lines * slots;
  both.seconds = both.work() * slots / (a.work_per_second() + b.work_per_second());
  return both;
}

void Estimator::add(const std::string& model, const AnsweredLine& line) {
  Pace one;
  one.lines = 1;
  one.bytes = static_cast<double>(line.bytes);
  one.prompt = static_cast<double>(line.usage.input - line.usage.cached);
  one.answer = static_cast<double>(line.usage.output);
  one.work_squared = work(line.usage) * work(line.usage);
  one.seconds = std::chrono::duration<double>(line.took).count();
  one.under_way = static_cast<double>(line.under_way);

  Pace& recent = own_[model];
  const double passed = one.seconds / one.under_way;  // since the line before it, on the average
  const double kept = std::exp(-std::min(passed / kMemorySeconds, 1 / kMemoryLines));
  for (double Pace::*sum : {&Pace::lines, &Pace::bytes, &Pace::prompt, &Pace::answer, &Pace::work_squared,
                            &Pace::seconds, &Pace::under_way}) {
    recent.*sum = recent.*sum * kept + one.*sum;
  }
}

Pace Estimator::pace(const std::string& model) const {
  const auto own = own_.find(model), others = others_.find(model);
  return together(own == own_.end() ? Pace{} : own->second, others == others_.end() ? Pace{} : others->second);
}

std::map<BatchId, QueuePlace> estimate(const std::vector<Batch>& queue, const Weights& weights,
                                       const Estimator& estimator, Timestamp now) {
  // The batches of one project and model.
  struct Row {
    double weight = 1;
    double work = 0;                // of all
    double sent = 0, answered = 0;  // work until the last line so far is sent, and until it is answered
  };
  struct Item {
    const Batch& batch;
    std::map<ProjectId, Row>& rows;  // of its model
    Pace pace;                       // of its model
    double left = 0, line = 0;       // lines, and the work of one
  };
  std::map<std::string, std::map<ProjectId, Row>> models;
  std::map<std::string, Pace> paces;
  std::vector<Item> items;
  for (const Batch& batch : queue) {
    if (batch.status == BatchStatus::cancelling || batch.paused_at) continue;
    const std::string model = batch.model.value_or("");
    Pace& pace = paces.try_emplace(model, estimator.pace(model)).first->second;
    const Pace own = own_pace(batch, now);
    if (pace.lines == 0) pace = own;  // we were started again in the middle of it
    Item item{batch, models[model], pace};
    item.left = static_cast<double>(batch.counts.total) - own.lines;
    item.line = work_per_line(batch, own, pace);
    Row& row = item.rows[batch.project];
    if (const auto found = weights.find(batch.project); found != weights.end()) {
      row.weight = static_cast<double>(found->second);
    }
    row.work += item.left * item.line;
    items.push_back(item);
  }

  std::map<BatchId, QueuePlace> places;
  std::map<ProjectId, std::int64_t> positions;
  for (const Item& item : items) {
    const Batch& batch = item.batch;
    const Pace& pace = item.pace;
    const double left = item.left, line = item.line;
    Row& row = item.rows.at(batch.project);
    double all_weights = 0;
    for (const auto& [project, other] : item.rows) {
      if (&other == &row || other.work > 0) all_weights += other.weight;
    }
    const double part = row.weight / all_weights, slots = pace.slots() * part;
    const double speed = pace.work_per_second();
    // When so much of this project's work is done: until then each of the others has had as much as its weight says, or
    // all that it has.
    const auto after = [&](double work) {
      double together = work;
      for (const auto& [project, other] : item.rows) {
        if (&other != &row) together += std::min(other.work, work * other.weight / row.weight);
      }
      return now + Millis(static_cast<std::int64_t>(1000 * together / speed));
    };

    QueuePlace place;
    const bool begun = batch.status != BatchStatus::validating && !is_waiting(batch);
    if (!begun) place.position = ++positions[batch.project];
    place.start = begun ? batch.in_progress_at.value_or(now) : after(row.sent);

    const double last = std::min(left, slots);
    row.answered += left * line;
    row.sent = std::max(row.answered - slots * line, row.sent);
    place.completion = std::max(after(row.answered + straggling(pace, last) * last * line), place.start);
    if (begun && left > 0 && pace.lines > 0) place.lines_per_second = part * speed / line;
    places.emplace(batch.id, place);
  }
  return places;
}

}  // namespace penstock
