#include "client/follow.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/system/system_error.hpp>

#include "base/exit_codes.h"
#include "base/output_file.h"
#include "client/batch_view.h"
#include "client/commands.h"
#include "client/events.h"
#include "client/local_files.h"
#include "client/progress.h"
#include "client/transfer.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
constexpr Millis kEventsSilenceMax{45'000};        // there is a sign of life each 15 s
constexpr Millis kResultsSilenceMax{10 * 60'000};  // there is none
constexpr Millis kPause{1'000};

// Shows a batch as its events tell of it.
class Follower {
 public:
  Follower(Server& server, bool json)
      : server_(server), json_(json), progress_(::isatty(STDERR_FILENO)), told_by_others_(server.on_trouble) {
    if (json_) return;
    server_.on_trouble = [this](const std::string& trouble) {
      away_ = trouble;
      show();
    };
  }
  ~Follower() {
    end();
    server_.on_trouble = told_by_others_;
  }
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  void add(std::string_view data) {
    object_ = json::parse({data.data(), data.size()}).as_object();
    batch_ = read_batch(object_);
    if (json_) print_json(object_);
    show();
  }
  void end() { progress_.end(); }
  const Batch& batch() const { return batch_; }
  bool ended() const { return is_terminal(batch_.status); }

 private:
  void show() {
    if (!json_) progress_.show(batch_, away_.empty() ? why_it_waits(object_) : away_, server_.clock().monotonic());
  }

  Server& server_;
  const bool json_;
  Progress progress_;
  const std::function<void(const std::string&)> told_by_others_;
  std::string away_;
  json::object object_;
  Batch batch_;
};

Task<> follow_events(Server& server, std::string id, Follower& follower) {
  EventParser parser([&](std::string_view, std::string_view data) { follower.add(data); });
  const std::function<Server::Asked()> ask = [&] {
    parser.reset();
    return Server::Asked{.path = fmt::format("/v1/batches/{}/events", id), .headers = {}};
  };
  const std::function<void(std::string_view)> take = [&](std::string_view piece) { parser.add(piece); };
  while (true) {
    co_await server.follow(ask, take, kEventsSilenceMax);
    if (follower.ended()) co_return;
    co_await sleep_until(server.clock(), server.clock().monotonic() + kPause);
  }
}

// Both files; one that the batch has not got leaves nothing of an earlier one.
Task<> fetch_files(Server& server, Batch batch, std::string output, fs::path errors) {
  if (batch.output_file_id) {
    co_await download(server, batch.output_file_id->value, output);
  } else {
    OutputFile(output).commit();
  }
  if (batch.error_file_id) {
    co_await download(server, batch.error_file_id->value, errors);
  } else {
    fs::remove(errors);
  }
}

// Complete lines to standard output, and where to go on behind them.
class LinePrinter {
 public:
  void add(std::string_view piece) {
    const auto end = piece.rfind('\n');
    if (end == std::string_view::npos) {
      begun_ += piece;
      return;
    }
    begun_ += piece.substr(0, end + 1);
    std::fwrite(begun_.data(), 1, begun_.size(), stdout);
    std::fflush(stdout);
    last_id_ = id_of_last_line();
    begun_ = piece.substr(end + 1);
  }
  void forget_begun() { begun_.clear(); }
  const std::string& last_id() const { return last_id_; }

 private:
  std::string id_of_last_line() const {
    constexpr std::string_view kBeginning = R"({"id":")";
    const auto before = begun_.rfind('\n', begun_.size() - 2);
    const auto line = std::string_view(begun_).substr(before == std::string::npos ? 0 : before + 1);
    if (!line.starts_with(kBeginning)) return last_id_;
    return std::string(line.substr(kBeginning.size(), line.find('"', kBeginning.size()) - kBeginning.size()));
  }

  std::string begun_, last_id_;
};

}  // namespace

Task<int> follow_batch(Session& session, std::string id, std::string input, const ClientOptions& options) {
  Server& server = session.server;
  Batch batch;
  {
    Follower follower(server, options.json);
    try {
      co_await follow_events(server, id, follower);
    } catch (const boost::system::system_error& e) {
      follower.end();
      if (is_cancelled(e)) fmt::print(stderr, "interrupted; the batch goes on: penstock watch {}\n", id);
      throw;
    }
    batch = follower.batch();
  }
  const fs::path errors = options.output ? errors_path(*options.output, options.errors) : fs::path();
  if (batch.status == BatchStatus::failed) {
    fmt::print(stderr, "{}", faults_text(batch, input));
    co_return exit_code_of(batch);
  }
  if (options.output) co_await fetch_files(server, batch, *options.output, errors);
  if (!options.json) {
    if (batch.status != BatchStatus::completed) fmt::print(stderr, "the batch is {}\n", to_string(batch.status));
    const std::string where = options.output ? errors.string() : fmt::format("penstock fetch {} -o FILE", id);
    fmt::print(stderr, "{}", summary(batch, ended_at(batch).value_or(batch.created_at), where));
  }
  co_return exit_code_of(batch);
}

Task<int> tell_new_batch(Session& session, json::object made, std::string input, const ClientOptions& options) {
  const std::string id = text(made, "id");
  if (options.json) {
    print_json(made);
  } else {
    fmt::print("{}\n", id);
    std::fflush(stdout);
  }
  if (!options.watch && !options.output) co_return kExitOk;
  const int code = co_await follow_batch(session, id, input.empty() ? id : input, options);
  co_return code;
}

Task<int> watch(Session& session, const ClientOptions& options) {
  if (options.output) check_outputs(*options.output, options.errors);
  const std::string id = co_await batch_id(session.server, options.id);
  const int code = co_await follow_batch(session, id, id, options);
  co_return code;
}

Task<int> fetch(Session& session, const ClientOptions& options) {
  check_outputs(*options.output, options.errors);
  const std::string id = co_await batch_id(session.server, options.id);
  const json::object object = co_await session.server.get("/v1/batches/" + id);
  const Batch batch = read_batch(object);
  if (!is_terminal(batch.status)) {
    throw CommandFailure(kExitRefused,
                         fmt::format("the batch is {} and has no files yet; penstock watch {} -o {} waits "
                                     "for them",
                                     to_string(batch.status), id, *options.output));
  }
  if (batch.status == BatchStatus::failed) {
    fmt::print(stderr, "{}", faults_text(batch, id));
    co_return exit_code_of(batch);
  }
  const fs::path errors = errors_path(*options.output, options.errors);
  co_await fetch_files(session.server, batch, *options.output, errors);
  if (options.json) {
    print_json(object);
  } else {
    fmt::print(stderr, "{}", summary(batch, ended_at(batch).value_or(batch.created_at), errors.string()));
  }
  co_return exit_code_of(batch);
}

Task<int> results(Session& session, const ClientOptions& options) {
  Server& server = session.server;
  const std::string id = co_await batch_id(server, options.id);
  LinePrinter printer;
  const std::function<Server::Asked()> ask = [&] {
    printer.forget_begun();
    std::string path = fmt::format("/v1/batches/{}/results?stream={}", id, options.follow);
    if (!printer.last_id().empty()) path += "&after=" + printer.last_id();
    return Server::Asked{.path = std::move(path), .headers = {}};
  };
  const std::function<void(std::string_view)> take = [&](std::string_view piece) { printer.add(piece); };
  co_await server.follow(ask, take, kResultsSilenceMax);
  if (!options.follow) co_return kExitOk;
  const json::object batch = co_await server.get("/v1/batches/" + id);
  co_return exit_code_of(read_batch(batch));
}

}  // namespace penstock
