// Whole lives of batches, drawn by seed: up to three processes and three engines over one database and one disk for
// blobs, on one thread and with clocks that are moved by hand, so that a run depends on its seed alone. Meanwhile
// processes crash and stall, transactions fail or lose the reply to their COMMIT, disks fill up, engines misbehave,
// wall clocks are set, and clients cancel, pause and retry. When that has stopped everything must come to its end, and
// then what is stored is held against what the engines have answered.
//
// A seed that fails prints the command that runs it again and tells its story. PENSTOCK_SEED is the first seed,
// PENSTOCK_SEEDS how many there are from it on.

#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <unordered_map>

#include "base/hash.h"
#include "batch/lifecycle.h"
#include "model/wire.h"
#include "store/access.h"
#include "testing/faulty_connection.h"
#include "testing/memory_blobs.h"
#include "testing/process.h"

namespace penstock {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Millis kLease = Fleet::kLease;
// Of time without faults, in which everything ends: an engine hangs for ten minutes, and holds and pauses follow.
constexpr Millis kPatience = minutes(20);

// What a seed decides. std::uniform_int_distribution may give other numbers with another library.
class Draw {
 public:
  explicit Draw(std::uint32_t seed) : random_(seed) {}
  int below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }
  int between(int first, int last) { return first + below(last - first + 1); }
  bool one_in(int n) { return below(n) == 0; }
  Millis millis(Millis first, Millis last) {
    return Millis{between(static_cast<int>(first.count()), static_cast<int>(last.count()))};
  }
  template <class T>
  T& of(std::vector<T>& items) {
    return items[static_cast<std::size_t>(below(static_cast<int>(items.size())))];
  }

 private:
  std::mt19937 random_;
};

// The number of the request whose body that is; see request_body().
int number_of(const std::string& body) {
  return std::stoi(body.substr(body.find("question ") + 9));
}

// What engines have seen and said of one line.
struct Sent {
  int times = 0;
  int not_final = 0;                   // answers after which it is to be sent again, unless its attempts are used up
  std::map<std::string, int> answers;  // bodies with their status, each a different one
};

// An engine's server, which all workers know.
struct Machine {
  std::string name;
  std::vector<std::string> models;
  int slots = 1;
  Millis slow{1};  // an answer takes up to so long
  bool up = true;
  int bad_answers = 0;  // of 100
};

struct Answers {
  Draw& draw;
  std::unordered_map<int, Sent> lines;  // by the request's number
  std::function<void(const std::string& worker, const std::string& body)> on_send;
  int given = 0;
};

// A worker's view of a machine.
class MachineClient : public Engine {
 public:
  MachineClient(std::string worker, Machine& machine, Answers& answers, Clock& clock, EngineChanged changed)
      : worker_(std::move(worker)), machine_(machine), answers_(answers), clock_(clock), changed_(std::move(changed)) {}

  Task<> run() override {
    while (true) {
      if (std::exchange(ready_, machine_.up) != machine_.up) changed_();
      const Moment next = clock_.monotonic() + Millis{2'000};
      co_await sleep_until(clock_, next);
    }
  }

  Task<Answer> send(std::string_view, std::string_view body_view, std::size_t, std::string_view) override {
    const std::string body(body_view);
    answers_.on_send(worker_, body);
    Sent& line = answers_.lines[number_of(body)];
    ++line.times;
    ++line.not_final;  // until it is
    Millis takes = answers_.draw.millis(Millis{0}, machine_.slow);
    const int kind = answers_.draw.below(100) < machine_.bad_answers ? answers_.draw.between(1, 10) : 0;
    if (kind == 1) takes = minutes(10);
    const Moment then = clock_.monotonic() + takes;
    co_await sleep_until(clock_, then);
    if (!machine_.up || kind == 2) {
      ready_ = false;
      changed_();
      co_return no_answer(Answer::Kind::unreachable);
    }
    if (kind == 1) co_return no_answer(Answer::Kind::timeout);
    if (kind == 3) co_return no_answer(Answer::Kind::broken);
    if (kind == 4) co_return answered(200, "{\"half\":");
    constexpr std::array<int, 11> kStatus = {200, 0, 0, 0, 0, 500, 502, 429, 503, 401, 400};
    Answer answer =
        answered(kStatus[static_cast<std::size_t>(kind)],
                 fmt::format(R"({{"number":{},"echo":{},"usage":{{"prompt_tokens":3,"completion_tokens":2}}}})",
                             ++answers_.given, body));
    if (kind == 7) answer.retry_after = answers_.draw.millis(Millis{0}, Millis{20'000});
    if (kind == 0 || kind == 10) --line.not_final;
    line.answers[answer.body] = answer.status;
    co_return answer;
  }

  const std::string& name() const override { return machine_.name; }
  int slots() const override { return machine_.slots; }
  bool ready() const override { return ready_; }
  const std::vector<std::string>& models() const override { return machine_.models; }
  const std::string& trouble() const override { return machine_.name; }

 private:
  const std::string worker_;
  Machine& machine_;
  Answers& answers_;
  Clock& clock_;
  EngineChanged changed_;
  bool ready_ = false;
};

// One computer, and the process that runs on it, if one does.
struct Node {
  std::string worker;  // the name of its process
  Millis wall{0};      // its wall clock is off by so much
  std::unique_ptr<Disk> disk;
  FaultyConnection* session = nullptr;
  MemoryBlobs* blobs = nullptr;
  std::unique_ptr<Process> process;
  std::vector<std::pair<asio::thread_pool*, std::deque<std::function<void()>>>> pools;
  Moment stalled_until{}, pools_stalled_until{};
  std::set<int> saved_before;  // requests whose answers were stored when it began
};

// A batch as its client knows it.
struct Job {
  BatchId id;
  ProjectId project = kDefaultProject;
  FileId input;
  int first = 0, end = 0;  // of the requests in its file
  std::string model;
  bool faulty = false;                                    // the input is
  bool retried = false;                                   // another batch runs lines of its file, too
  std::optional<Batch> seen;                              // when it was last looked at
  std::vector<std::shared_ptr<const std::string>> files;  // when it had ended
};

enum Fault {
  crash,
  stop,
  stall,
  slow_disk,
  lost_statement,
  lost_reply,
  full_disk,
  machine_down,
  bad_answer,
  clock_set,
  cancel,
  pause,
  priority,
  retry,
  weight,
  expiry,
  kFaults
};

// The command that runs it again.
std::string replay(std::uint32_t seed) {
  return fmt::format("PENSTOCK_SEED={} {} --gtest_filter='SimulationTest.*'", seed,
                     std::filesystem::read_symlink("/proc/self/exe").string());
}

class World {
 public:
  World(std::uint32_t seed, bool tells) : seed_(seed), draw_(seed), answers_{draw_, {}, {}}, tells_(tells) {
    sql::transaction(*database_, [&] { Store(*database_).migrate(); });
    // All claims, and who had the span before, if anybody had: that outlives the spans.
    database_->execute_script(
        "CREATE TABLE claims (batch_seq BIGINT, number BIGINT, owner TEXT, loser TEXT);"
        "CREATE TRIGGER note_claim AFTER UPDATE OF token ON spans WHEN NEW.owner IS NOT NULL BEGIN"
        " INSERT INTO claims VALUES (NEW.batch_seq, NEW.number, NEW.owner, (SELECT owner FROM claims"
        " WHERE batch_seq = NEW.batch_seq AND number = NEW.number ORDER BY rowid DESC LIMIT 1)); END");
    projects_.resize(static_cast<std::size_t>(draw_.between(1, 4)));
    for (Project& project : projects_) {
      project.id = {fmt::format("proj_{}", &project - projects_.data())};
      project.weight = draw_.between(1, 9);
      sql::transaction(*database_, [&] {
        Store s(*database_);
        Access(s).insert_project(project);
      });
    }
    const int rarity = draw_.between(1, 5);  // some lives are calm
    for (bool& may : may_) may = draw_.one_in(rarity);
    machines_.push_back({.name = "a", .models = {"m"}, .slots = draw_.between(1, 4)});
    machines_.push_back({.name = "b", .models = {"m", "n"}, .slots = draw_.between(1, 16)});
    machines_.push_back({.name = "c", .models = {"n"}, .slots = draw_.between(1, 64)});
    for (Machine& machine : machines_) machine.slow = draw_.millis(Millis{1}, Millis{draw_.one_in(2) ? 5'000 : 100});
    answers_.on_send = [this](const std::string& worker, const std::string& body) {
      trace_.add(fmt::format("{} {} {}\n", now_.time_since_epoch().count(), worker, body));
      on_send(worker, body);
    };
    simulated_pools = [this](asio::thread_pool& pool, std::function<void()> work) {
      auto place = std::find_if(current_->pools.begin(), current_->pools.end(),
                                [&](const auto& item) { return item.first == &pool; });
      if (place == current_->pools.end()) {
        place = current_->pools.emplace(place, &pool, std::deque<std::function<void()>>());
      }
      place->second.push_back(std::move(work));
    };
    nodes_.resize(static_cast<std::size_t>(draw_.between(1, 3)));
    for (Node& node : nodes_) start(node);
  }
  ~World() {
    for (Node& node : nodes_) {
      if (node.process) kill(node);
    }
    simulated_pools = nullptr;
  }

  // What went wrong, in words.
  std::vector<std::string> live() {
    for (int turn = draw_.between(20, 150); turn > 0 && faults_.empty(); --turn) {
      if (draw_.one_in(turn > 20 ? 4 : 12)) client();
      if (draw_.one_in(3)) misfortune();
      const bool hurried = draw_.one_in(3);
      run(hurried ? draw_.below(300) : kAll);
      look();
      advance(hurried           ? draw_.millis(Millis{0}, Millis{5})
              : draw_.one_in(4) ? draw_.millis(Millis{0}, Millis{4'000})
                                : draw_.millis(Millis{0}, Millis{30}));
    }
    look(true);
    heal();
    const Moment end = now_ + kPatience;
    while (faults_.empty() && !std::all_of(jobs_.begin(), jobs_.end(), ended)) {
      run(kAll);
      look();
      if (now_ >= end) check(false, "stuck: {}", describe());
      advance_to_next();
    }
    // Time for all that comes late, and for the results to be removed.
    for (int day = 0; day < 4 && faults_.empty(); ++day) {
      run(kAll);
      advance(day < 1 ? Millis{30'000} : Millis{hours(30)});
    }
    if (faults_.empty()) {
      look(true);
      audit_repeats();
      check(count("result_groups") == 0 && count("spans") == 0, "something is left: {} result groups, {} spans",
            count("result_groups"), count("spans"));
    }
    trace_.add(describe());
    return faults_;
  }
  std::string trace() const { return trace_.hex(); }

 private:
  static constexpr int kAll = 10'000'000;  // steps: nothing needs so many without time passing

  // Of what could not be cleared up.
  [[noreturn]] void give_up(const std::string& why) const {
    fmt::print(stderr, "{}\n{}\n", why, replay(seed_));
    std::abort();
  }

  template <class... Args>
  void check(bool holds, fmt::format_string<Args...> format, Args&&... args) {
    if (!holds) faults_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void tell(fmt::format_string<Args...> format, Args&&... args) {
    if (!tells_) return;
    fmt::print(stderr, "{:>9.3f} {}\n", static_cast<double>((now_ - begin_).count()) / 1000,
               fmt::format(format, std::forward<Args>(args)...));
  }

  // --- the machinery

  // Each process sets it when it begins and when it ends.
  void set_log() const { log::set_level(tells_ ? log::Level::info : log::Level::off); }

  template <class F>
  auto store(F f) {
    return sql::transaction(*database_, [&] {
      Store s(*database_);
      return f(s);
    });
  }

  void start(Node& node) {
    auto session = std::make_unique<FaultyConnection>(*database_);
    auto blobs = std::make_unique<MemoryBlobs>(blobs_);
    const Millis wall = node.wall;
    node = {};
    node.wall = wall;
    node.session = session.get();
    node.blobs = blobs.get();
    node.disk = std::make_unique<Disk>(std::move(session), std::move(blobs));
    for (const Job& job : jobs_) {
      if (job.retried) continue;
      for (const int i : saved(job)) node.saved_before.insert(i);
    }
    Dispatcher::Options options;
    node.worker = options.worker = fmt::format("w{}", ++workers_);
    options.commit_lines = static_cast<std::size_t>(draw_.between(1, 40));
    options.random_seed = static_cast<std::uint32_t>(draw_.below(1 << 30));
    tell("{} begins", options.worker);
    node.process = std::make_unique<Process>(*node.disk, options, Lifecycle::Options{}, nodes_.size() > 1);
    set_log();
    Process& process = *node.process;
    process.clock.advance(now_ - process.clock.monotonic());
    process.clock.set_wall(node.wall);
    note_wall();
    for (Machine& machine : machines_) {
      process.engines.add(
          std::make_unique<MachineClient>(options.worker, machine, answers_, process.clock, process.engines.changed()));
    }
    run_alone(node, start_parts(process));
  }
  static Task<> start_parts(Process& process) {
    co_await process.fleet.start();
    process.dispatcher.start();
    process.engines.start();
    co_await process.lifecycle.resume();
  }

  // Nothing that it has under way takes effect any more.
  void kill(Node& node) {
    node.session->cut_off = node.blobs->cut_off = true;
    end(node);
  }
  void end(Node& node) {
    ++losses_[node.worker];
    run_alone(node, stop_parts(*node.process));
    node.process->dispatcher_is_stopped();
    node.process.reset();
    set_log();
    node.disk.reset();
  }
  static Task<> stop_parts(Process& process) {
    process.fleet.retire();
    co_await process.lifecycle.stop();
    const Millis patience{0};
    co_await process.dispatcher.stop(patience);
    co_await process.fleet.stop();
  }
  void run_alone(Node& node, Task<> task) {
    TaskGroup group(node.process->loop);
    group.spawn("alone", std::move(task));
    node.stalled_until = node.pools_stalled_until = {};
    for (int seconds_left = 100'000; group.size() > 0;) {
      if (run_one(node)) continue;
      if (--seconds_left == 0) give_up(node.worker + " does not end");
      node.process->clock.advance(Millis{1'000});
    }
  }

  // One handler of its loop, or what a pool has waited longest to do.
  bool run_one(Node& node) {
    if (!node.process || node.stalled_until > now_) return false;
    current_ = &node;
    const bool pool_first = draw_.one_in(2);
    if (pool_first && run_pool(node)) return true;
    node.process->loop.restart();
    if (node.process->loop.poll_one() > 0) return true;
    return !pool_first && run_pool(node);
  }
  bool run_pool(Node& node) {
    if (node.pools_stalled_until > now_ || node.pools.empty()) return false;
    const auto first = static_cast<std::size_t>(draw_.below(static_cast<int>(node.pools.size())));
    for (std::size_t i = 0; i < node.pools.size(); ++i) {
      auto& work = node.pools[(first + i) % node.pools.size()].second;
      if (work.empty()) continue;
      const auto next = std::move(work.front());
      work.pop_front();
      next();
      return true;
    }
    return false;
  }
  // What can run without time passing, or so many steps of it, in an order that is drawn.
  void run(int steps) {
    const bool all = steps == kAll;
    while (steps-- > 0) {
      if (run_one(draw_.of(nodes_))) continue;
      bool any = false;
      for (Node& node : nodes_) any |= run_one(node);
      if (!any) break;
    }
    if (all && steps < 0) give_up("there is no end to what can run");
  }

  void advance(Millis step) {
    now_ += step;
    for (Node& node : nodes_) {
      if (node.process) node.process->clock.advance(step);
    }
    note_wall();
  }
  void advance_to_next() {
    Moment next = now_ + seconds(5);
    for (const Node& node : nodes_) next = std::min(next, node.process->clock.next_alarm().value_or(next));
    advance(std::max(next - now_, Millis{1}));
  }
  void note_wall() {
    for (const Node& node : nodes_) {
      if (node.process) latest_wall_ = std::max(latest_wall_, node.process->clock.now());
    }
  }

  std::int64_t count(const char* table) {
    std::int64_t rows = 0;
    database_->execute(fmt::format("SELECT COUNT(*) FROM {}", table), {},
                       [&](const sql::Row& row) { rows = row.integer(0); });
    return rows;
  }

  // --- what happens

  void client() {
    Process* server = nodes_[0].process.get();
    if (!server || nodes_[0].stalled_until > now_) return;
    current_ = nodes_.data();
    if (jobs_.empty() || (jobs_.size() < 6 && draw_.one_in(3))) return submit(*server);
    Job& job = draw_.of(jobs_);
    const int kind = draw_.between(cancel, expiry);
    if (!may_[kind]) return;
    const Timestamp wall = server->clock.now();
    if (kind == cancel && draw_.one_in(3)) {
      if (!store([&](Store& s) { return s.request_cancel(job.project, job.id, wall).has_value(); })) return;
      tell("cancel {}", job.id.value);
      server->lifecycle.notify(job.id);
    } else if (kind == pause) {
      const bool paused = draw_.one_in(2);
      if (!store([&](Store& s) {
            return s.set_paused(job.project, job.id, paused ? std::optional(wall) : std::nullopt).has_value();
          }))
        return;
      tell("{} {}", paused ? "pause" : "resume", job.id.value);
      server->lifecycle.set_paused(job.id, paused);
    } else if (kind == priority) {
      store([&](Store& s) { return s.set_priority(job.project, job.id, draw_.between(-1, 1)).has_value(); });
    } else if (kind == weight) {
      Project& project = draw_.of(projects_);
      project.weight = draw_.between(1, 9);
      tell("{} has the weight {}", project.id.value, project.weight);
      store([&](Store& s) { Access(s).update_project(project); });
    } else if (kind == retry && jobs_.size() < 8) {
      Batch batch;
      batch.id = new_id();
      batch.project = job.project;
      batch.driver = nodes_[0].worker;
      batch.created_at = wall;
      if (!store([&](Store& s) { return s.retry_batch(job.id, batch, {0, 0}).has_value(); })) return;
      tell("{} retries {}", batch.id.value, job.id.value);
      for (Job& one : jobs_) one.retried |= one.input == job.input;
      Job again = job;
      again.id = batch.id;
      again.seen.reset();
      for (Node& node : nodes_) {
        for (int i = job.first; i < job.end; ++i) node.saved_before.erase(i);
      }
      jobs_.push_back(std::move(again));
      server->lifecycle.start(batch.id);
    }
  }

  BatchId new_id() { return {fmt::format("batch_{:032x}", jobs_.size() + 1)}; }

  void submit(Process& server) {
    Job job;
    job.id = new_id();
    job.input = {fmt::format("file-in{}", jobs_.size() + 1)};
    job.first = static_cast<int>(jobs_.size()) * 10'000;
    job.end = job.first + (draw_.one_in(5) ? draw_.between(500, 1'300) : draw_.between(1, 40));
    job.model = draw_.one_in(3) ? "n" : "m";
    job.faulty = draw_.one_in(12);
    const std::string text = input_lines(job.first, job.end, job.model) + (job.faulty ? "bad\n" : "");
    job.project = draw_.of(projects_).id;
    Batch batch;
    batch.id = job.id;
    batch.project = job.project;
    batch.driver = nodes_[0].worker;
    batch.input_file_id = job.input;
    batch.endpoint = "/v1/chat/completions";
    batch.completion_window = "24h";
    batch.created_at = server.clock.now();
    batch.expires_at = batch.created_at + hours(24);
    if (may_[expiry] && draw_.one_in(3)) batch.expires_at = batch.created_at + draw_.millis(seconds(1), seconds(60));
    blobs_[job.input.value] = std::make_shared<const std::string>(text);
    store([&](Store& s) {
      s.insert_file(
          {job.input, "in.jsonl", "batch", text.size(), batch.created_at, std::nullopt, std::nullopt, job.project});
      s.insert_batch(batch, {0, 0}).value();
    });
    tell("create {} with {} lines for {} in {}", job.id.value, job.end - job.first, job.model, job.project.value);
    jobs_.push_back(std::move(job));
    server.lifecycle.start(batch.id);
  }

  void misfortune() {
    Node& node = draw_.of(nodes_);
    Machine& machine = draw_.of(machines_);
    const int kind = draw_.below(cancel);
    if (!node.process) {
      if (draw_.one_in(3)) start(node);
      return;
    }
    if (!may_[kind]) return;
    switch (kind) {
      case crash:
        if (!draw_.one_in(2)) return;
        tell("{} crashes", node.worker);
        return kill(node);
      case stop:
        if (!draw_.one_in(3)) return;
        tell("{} is stopped", node.worker);
        node.session->statements_left = -1;
        node.session->loses_reply_of.reset();
        return end(node);
      case stall:
        ++losses_[node.worker];
        node.stalled_until = now_ + draw_.millis(Millis{100}, 3 * kLease);
        return tell("{} stalls for {} ms", node.worker, (node.stalled_until - now_).count());
      case slow_disk:
        ++losses_[node.worker];
        node.pools_stalled_until = now_ + draw_.millis(Millis{100}, 2 * kLease);
        return tell("the pools of {} stall for {} ms", node.worker, (node.pools_stalled_until - now_).count());
      case lost_statement:
        node.session->statements_left = draw_.below(20);
        node.session->failures = draw_.between(1, 5);
        losses_[node.worker] += node.session->failures;
        return tell("{} transactions of {} fail", node.session->failures, node.worker);
      case lost_reply:
        ++losses_[node.worker];
        node.session->loses_reply_of = "";
        return tell("{} loses the reply to a COMMIT", node.worker);
      case full_disk:
        node.blobs->calls_left = draw_.below(12);
        node.blobs->failures = draw_.between(1, 5);
        return tell("{} calls for blobs of {} fail", node.blobs->failures, node.worker);
      case machine_down:
        machine.up = !machine.up;
        return tell("engine {} is {}", machine.name, machine.up ? "up" : "down");
      case bad_answer:
        machine.bad_answers = draw_.one_in(2) ? 0 : draw_.between(1, 100);
        return tell("engine {} gives {} % bad answers", machine.name, machine.bad_answers);
      case clock_set:
        node.wall = draw_.one_in(2) ? draw_.millis(-seconds(30), seconds(30)) : draw_.millis(-hours(25), hours(25));
        return tell("the clock of {} is set: its next process will be off by {} ms", node.worker, node.wall.count());
    }
  }

  void heal() {
    tell("the faults stop");
    for (Machine& machine : machines_) {
      machine.up = true;
      machine.bad_answers = 0;
    }
    for (Node& node : nodes_) {
      node.stalled_until = node.pools_stalled_until = {};
      if (!node.process) start(node);
      node.session->statements_left = node.blobs->calls_left = -1;
      node.session->loses_reply_of.reset();
    }
    for (const Job& job : jobs_) {
      if (store([&](Store& s) { return s.set_paused(job.project, job.id, std::nullopt).has_value(); })) {
        nodes_[0].process->lifecycle.set_paused(job.id, false);
      }
    }
  }

  // --- what must hold

  static bool ended(const Job& job) { return job.seen && is_terminal(job.seen->status); }

  std::string describe() {
    std::string text;
    for (const Job& job : jobs_) {
      const Batch batch = store([&](Store& s) { return s.find_batch(job.id).value(); });
      fmt::format_to(std::back_inserter(text), "\n{}", wire::to_json(batch));
    }
    return text;
  }

  std::vector<std::shared_ptr<const std::string>> files_of(const Batch& batch) const {
    std::vector<std::shared_ptr<const std::string>> files;
    for (const auto& id : {batch.output_file_id, batch.error_file_id}) {
      const auto found = id ? blobs_.find(id->value) : blobs_.end();
      files.push_back(found == blobs_.end() ? nullptr : found->second);
    }
    return files;
  }

  // A body is sent as it is, never by a process that began when its answer was stored, and never by the one that has
  // cut its batch short.
  void on_send(const std::string& worker, const std::string& body) {
    const int i = number_of(body);
    check(!current_->saved_before.contains(i), "{} sends line {}, whose answer was stored before it began", worker, i);
    for (const Job& job : jobs_) {
      if (i < job.first || i >= job.end) continue;
      check(body == request_body(i, job.model), "{} sends {}", worker, body);
      const bool cut_short = ended(job) && job.seen->status != BatchStatus::completed;
      check(job.retried || !cut_short || job.seen->driver != worker, "{} sends line {}, whose batch has ended", worker,
            i);
    }
  }

  // Counts only grow, the total stands once the input is checked, and what has ended stays as it is (I2, I3).
  void look(bool at_all = false) {
    for (Job& job : jobs_) {
      if (ended(job) && !at_all) continue;
      Batch batch = store([&](Store& s) { return s.find_batch(job.id).value(); });
      const std::string name = fmt::format("{} ({})", job.id.value, to_string(batch.status));
      if (ended(job)) {
        check(wire::to_json(batch) == wire::to_json(*job.seen), "{} has changed after its end", name);
        check(files_of(batch) == job.files, "{}: its files were written after its end", name);
        continue;
      }
      if (job.seen) {
        const Counts &before = job.seen->counts, &now = batch.counts;
        check(now.completed >= before.completed && now.failed >= before.failed, "{}: counts have shrunk", name);
        check(before.total == now.total || before.total == 0, "{}: another total", name);
      }
      check(batch.counts.completed + batch.counts.failed <= batch.counts.total, "{}: more than all lines", name);
      if (is_terminal(batch.status)) {
        tell("{} has ended", name);
        job.files = files_of(batch);
      }
      job.seen = std::move(batch);
      if (ended(job)) audit(job);
    }
  }

  // The requests whose answers are stored.
  std::vector<int> saved(const Job& job) {
    std::vector<int> all;
    store([&](Store& s) {
      for (std::int64_t span = 0; span * span_lines(job.end - job.first) < job.end - job.first; ++span) {
        for (const std::uint32_t index : s.finished_indices({job.id, span})) {
          all.push_back(job.first + static_cast<int>(index));
        }
      }
    });
    return all;
  }

  // Every line once and in order, and its own answer, byte for byte (I1, I2, I9).
  void audit(const Job& job) {
    const Batch& batch = *job.seen;
    const std::string name = fmt::format("{} ({})", job.id.value, to_string(batch.status));
    std::vector<int> lines;
    Counts counts{.total = batch.counts.total};
    for (const bool is_output : {true, false}) {
      const auto& id = is_output ? batch.output_file_id : batch.error_file_id;
      if (!id) continue;
      check(blobs_.contains(id->value) && !blobs_[id->value]->empty(), "{}: a file is not there, or empty", name);
      check(store([&](Store& s) { return s.find_file(job.project, *id, batch.created_at).has_value(); }),
            "{}: no such file", name);
      int last = -1;
      for (const std::string& line : split_lines(*blobs_[id->value])) {
        ++(is_output ? counts.completed : counts.failed);
        const int i = std::stoi(behind(line, "\"custom_id\":\"r"));
        check(i > last, "{}: line {} is out of order", name, i);
        last = i;
        lines.push_back(i);
        audit_line(name, batch, line, is_output, answers_.lines[i]);
      }
    }
    check(counts == batch.counts, "{}: it says {}/{}/{}, but there are {}/{} lines", name, batch.counts.total,
          batch.counts.completed, batch.counts.failed, counts.completed, counts.failed);
    check(batch.usage == Usage{3 * counts.completed, 0, 2 * counts.completed, 0}, "{}: wrong usage", name);
    check(batch.status != BatchStatus::failed || job.faulty, "{}: there is no fault in its input", name);
    check(batch.status != BatchStatus::completed || !job.faulty, "{}: it has a fault in its input", name);
    check(batch.status != BatchStatus::expired || batch.expires_at <= latest_wall_, "{}: early", name);
    std::sort(lines.begin(), lines.end());
    std::vector<int> expected;
    for (int i = job.first; i < job.end && !job.faulty; ++i) expected.push_back(i);
    check(lines == expected, "{}: its files have other lines than its input, {} for {}", name, lines.size(),
          expected.size());
    // What was stored is in the files.
    std::vector<int> stored = saved(job);
    std::sort(stored.begin(), stored.end());
    check(std::adjacent_find(stored.begin(), stored.end()) == stored.end(), "{}: an answer is stored twice", name);
    check(static_cast<std::int64_t>(stored.size()) == answered_, "{}: {} answers were stored, {} are in the files",
          name, stored.size(), answered_);
    answered_ = 0;
  }

  static std::string behind(const std::string& line, std::string_view mark) {
    const auto at = line.find(mark);
    return at == std::string::npos ? "" : line.substr(at + mark.size());
  }

  void audit_line(const std::string& name, const Batch& batch, const std::string& line, bool is_output,
                  const Sent& sent) {
    const std::string response = behind(line, "\"response\":{\"status_code\":"),
                      code = behind(line, "\"error\":{\"code\":\"");
    if (code.starts_with("batch_")) {
      return check(code.starts_with("batch_" + std::string(to_string(batch.status))), "{}: {}", name, line);
    }
    ++answered_;
    if (response.empty()) return check(!is_output && sent.not_final > 0, "{}: nobody has said {}", name, line);
    const int status = std::stoi(response);
    const std::string body = behind(line, "\"body\":");
    const std::string_view after = "},\"error\":null}";
    const auto found = sent.answers.find(body.substr(0, body.size() - std::min(after.size(), body.size())));
    check(
        body.ends_with(after) && found != sent.answers.end() && found->second == status && is_output == (status == 200),
        "{}: no engine has answered {}", name, line);
  }

  // A line is sent once a claim of its span, and once more after each answer that is not final. A worker loses a span
  // only by what has befallen it: a crash, stop, stall or failed transaction can cost it each span once. (I5)
  void audit_repeats() {
    std::map<int, std::int64_t> claims;  // by the first request of a span
    for (const Job& job : jobs_) {
      const auto size = static_cast<int>(span_lines(job.end - job.first));
      database_->execute(
          "SELECT number, loser, COUNT(*) FROM claims"
          " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1) GROUP BY number, loser",
          {job.id.value}, [&](const sql::Row& row) {
            claims[job.first + static_cast<int>(row.integer(0)) * size] += row.integer(2);
            const std::string loser(row.is_null(1) ? "" : row.text(1));
            check(row.integer(2) <= (loser.empty() ? 1 : losses_[loser]), "{}: span {} was claimed {} times from '{}'",
                  job.id.value, row.integer(0), row.integer(2), loser);
          });
    }
    for (const Job& job : jobs_) {
      const auto size = static_cast<int>(span_lines(job.end - job.first));
      for (int i = job.first; i < job.end; ++i) {
        const Sent& sent = answers_.lines[i];
        const auto allowed = sent.not_final + claims[i - (i - job.first) % size];
        check(sent.times <= allowed, "{}: line {} was sent {} times, and at most {} can be", job.id.value, i,
              sent.times, allowed);
      }
    }
  }

  const std::uint32_t seed_;
  Draw draw_;
  Answers answers_;
  const bool tells_;
  std::array<bool, kFaults> may_{};
  std::unique_ptr<sql::Connection> database_ = sql::open_sqlite(":memory:");
  MemoryDisk blobs_;
  std::vector<Project> projects_;
  std::vector<Machine> machines_;
  std::vector<Node> nodes_;
  Node* current_ = nullptr;  // that something is run of
  std::vector<Job> jobs_;
  const Moment begin_{Millis(1'000'000)};
  Moment now_ = begin_;
  Timestamp latest_wall_{};
  int workers_ = 0;
  std::map<std::string, int> losses_;  // that each worker can have had of one span
  std::int64_t answered_ = 0;          // lines of the files that are audited
  StreamHash trace_;
  std::vector<std::string> faults_;
};

int number_from(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::stoi(text) : otherwise;
}

TEST(SimulationTest, WhateverHappensEveryBatchEndsWithEveryLineOnce) {
  const int first = number_from("PENSTOCK_SEED", 1);
  const int seeds = number_from("PENSTOCK_SEEDS", std::getenv("PENSTOCK_SEED") ? 1 : 200);
  for (int seed = first, failed = 0; seed < first + seeds && failed < 5; ++seed) {
    World world(static_cast<std::uint32_t>(seed), seeds == 1);
    const std::vector<std::string> faults = world.live();
    if (faults.empty()) continue;
    ++failed;
    std::string text;
    for (std::size_t i = 0; i < std::min<std::size_t>(faults.size(), 5); ++i) text += faults[i] + "\n";
    ADD_FAILURE() << text << replay(static_cast<std::uint32_t>(seed));
  }
}

TEST(SimulationTest, ASeedGivesTheSameRunEachTime) {
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    std::set<std::string> traces;
    for (int times = 0; times < 2; ++times) {
      World world(seed, false);
      world.live();
      traces.insert(world.trace());
    }
    EXPECT_EQ(traces.size(), 1u) << seed;
  }
}

}  // namespace
}  // namespace penstock
