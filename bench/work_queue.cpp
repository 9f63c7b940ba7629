#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <barrier>
#include <boost/json.hpp>
#include <iostream>
#include <random>
#include <thread>

#include "store/sessions.h"

// What the queue costs: workers claim the spans of one batch, run nothing, and save result groups until all is done.
// Each is a thread with a session of its own.
namespace penstock {
namespace {

constexpr const char* kModel = "bench";
constexpr std::int64_t kClaimLines = 2048;  // as a worker claims
constexpr std::size_t kTexts = 4096;        // different output lines

struct Options {
  std::string database;
  int workers = 1;
  std::int64_t lines = 1'000'000;
  std::size_t group = 256, line_size = 300;
  bool hold = false;
  double bare = 0;
};

std::unique_ptr<sql::Connection> open(const Options& options, bool read_only = false) {
  if (sql::is_postgres(options.database)) return sql::open_postgres(options.database, read_only);
  return sql::open_sqlite(options.database, read_only);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// Output lines of seeded words, all of one size.
std::vector<std::string> make_texts(std::size_t size) {
  constexpr std::string_view kWords[] = {"pressure ", "valve ", "of the ",  "turbine, ", "reservoir ", "and ",
                                         "flow ",     "head ",  "through ", "penstock ", "gate ",      "steady "};
  std::minstd_rand random(1);
  std::vector<std::string> texts(kTexts);
  for (std::string& text : texts) {
    text =
        fmt::format(R"({{"id":"batch_req_{:016x}{:016x}","custom_id":"request-{:07}","response":{{"status_code":200,)"
                    R"("body":{{"choices":[{{"message":{{"role":"assistant","content":")",
                    random() * 2'654'435'761u, random() * 2'654'435'761u, random() % 1'000'000);
    while (text.size() + 8 < size) text += kWords[random() % std::size(kWords)];
    text.resize(size - 8);
    text += "\"}}]}}}\n";
  }
  return texts;
}

// A batch that waits for workers.
BatchId make_batch(Store& store, std::int64_t lines) {
  const Timestamp now = std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now());
  File file;
  file.id.value = random_id("file-");
  file.filename = "in.jsonl";
  file.purpose = "batch";
  file.created_at = now;
  store.insert_file(file);
  Batch batch;
  batch.id.value = random_id("batch_");
  batch.input_file_id = file.id;
  batch.endpoint = "/v1/chat/completions";
  batch.completion_window = "24h";
  batch.created_at = now;
  batch.expires_at = now + std::chrono::days(1);
  if (!store.insert_batch(batch, {.depth = 0, .queued_total = 0})) throw std::runtime_error("the batch is refused");
  if (!store.start_batch(batch.id, kModel, lines)) throw std::runtime_error("the batch does not start");
  return batch.id;
}

// That no database makes smaller.
std::string some_bytes(std::size_t size) {
  std::minstd_rand random(1);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() >> 8);
  return bytes;
}

// Runs work(worker) on so many threads, from one moment on, and returns the seconds until all have returned.
template <class Work>
double in_threads(int count, Work work) {
  std::chrono::steady_clock::time_point start;
  std::barrier ready(count, [&]() noexcept { start = std::chrono::steady_clock::now(); });
  std::vector<std::jthread> threads;
  std::exception_ptr failure;
  std::atomic_flag failed;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      ready.arrive_and_wait();
      try {
        work(i);
      } catch (...) {
        if (!failed.test_and_set()) failure = std::current_exception();
      }
    });
  }
  threads.clear();
  if (failure) std::rethrow_exception(failure);
  return seconds_since(start);
}

// The result group of a span's lines from `first` to before `end`, counted from the span's first.
ResultGroup make_group(const ClaimedSpan& span, std::size_t first, std::size_t end,
                       const std::vector<std::string>& texts) {
  ResultGroup group;
  group.span = span.key;
  group.token = span.token;
  for (std::size_t i = span.first + first; i < span.first + end; ++i) {
    const std::string& text = texts[i % texts.size()];
    group.entries.push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(text.size())});
    group.lines += text;
  }
  group.usage = {.input = 100, .output = 50};
  return group;
}

// One worker: claims, and saves so many lines a transaction, those of each span as a group.
void work(Sessions& session, const Options& options, int number, const std::vector<std::string>& texts) {
  const Claim claim{.owner = fmt::format("worker_{}", number),
                    .model = kModel,
                    .lines = kClaimLines,
                    .workers = options.workers,
                    .begin = true};
  const auto claim_spans = [&](Store& store) {
    return store.claim_spans(claim, std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now()));
  };
  std::vector<ResultGroup> groups;
  const auto save = [&](Store& store) {
    return std::all_of(groups.begin(), groups.end(), [&](auto& group) { return store.save_results(group); });
  };
  while (true) {
    const std::vector<ClaimedSpan> spans = session.transaction(Sessions::kTries, claim_spans);
    if (spans.empty()) return;
    std::size_t room = options.group;
    for (const ClaimedSpan& span : spans) {
      for (std::size_t done = 0; done < span.count;) {
        const std::size_t end = std::min<std::size_t>(done + room, span.count);
        groups.push_back(make_group(span, done, end, texts));
        room -= end - done;
        done = end;
        const bool is_last = &span == &spans.back() && done == span.count;
        if (room > 0 && !is_last) continue;
        if (!session.transaction(Sessions::kTries, save)) throw std::runtime_error("a group was refused");
        groups.clear();
        room = options.group;
      }
    }
  }
}

double rounded(double value, double parts) {
  return std::round(value * parts) / parts;
}

void print(const Options& options, double seconds, double cpu, std::string_view kind, double stored_bytes) {
  const auto lines = static_cast<double>(options.lines);
  std::cout << boost::json::object{{"kind", kind},
                                   {"database", sql::is_postgres(options.database) ? "postgres" : "sqlite"},
                                   {"workers", options.workers},
                                   {"held_transaction", options.hold},
                                   {"lines", options.lines},
                                   {"line_bytes", options.line_size},
                                   {"lines_per_transaction", options.group},
                                   {"stored_bytes_per_line", rounded(stored_bytes, 10)},
                                   {"lines_per_second", rounded(lines / seconds, 1)},
                                   {"client_cpu_us_per_line", rounded(cpu * 1e6 / lines, 100)}}
            << '\n';
}

// The limit: the same bytes in rows of a table with nothing but a key, one a transaction.
void run_bare(const Options& options) {
  std::vector<std::unique_ptr<sql::Connection>> sessions;
  for (int i = 0; i < options.workers; ++i) sessions.push_back(open(options));
  sql::transaction(*sessions.front(), [&] {
    sessions.front()->execute_script(fmt::format("CREATE TABLE bare (seq BIGINT PRIMARY KEY, bytes {})",
                                                 sql::is_postgres(options.database) ? "BYTEA" : "BLOB"));
  });
  const std::string bytes = some_bytes(static_cast<std::size_t>(options.bare * static_cast<double>(options.group)));
  const std::int64_t rows = options.lines / static_cast<std::int64_t>(options.group);
  const double cpu = cpu_seconds();
  const double seconds = in_threads(options.workers, [&](int number) {
    sql::Connection& session = *sessions[static_cast<std::size_t>(number)];
    for (std::int64_t row = number; row < rows; row += options.workers) {
      sql::transaction(session, [&] {
        session.execute("INSERT INTO bare (seq, bytes) VALUES ($1, $2)", {row, sql::Blob{bytes}});
      });
    }
  });
  print(options, seconds, cpu_seconds() - cpu, "bare", options.bare);
}

void run_queue(const Options& options) {
  const auto admin = open(options);
  BatchId id;
  sql::transaction(*admin, [&] {
    Store store(*admin);
    store.migrate();
    id = make_batch(store, options.lines);
  });
  const std::vector<std::string> texts = make_texts(options.line_size);

  // Somebody who began to look before, and does not end.
  const auto idle = options.hold ? open(options, true) : nullptr;
  if (idle) {
    if (sql::is_postgres(options.database)) idle->execute_script("SET idle_in_transaction_session_timeout = 0");
    idle->begin();
    idle->execute("SELECT COUNT(*) FROM spans", {});
  }

  std::vector<std::unique_ptr<Sessions>> sessions;
  for (int i = 0; i < options.workers; ++i) sessions.push_back(std::make_unique<Sessions>(open(options)));
  const double cpu = cpu_seconds();
  const double seconds = in_threads(
      options.workers, [&](int number) { work(*sessions[static_cast<std::size_t>(number)], options, number, texts); });
  const double used = cpu_seconds() - cpu;
  sessions.clear();
  if (idle) idle->commit();  // and throws if it was ended before

  const Batch batch = sql::transaction(*admin, [&] { return Store(*admin).find_batch(id).value(); });
  if (batch.counts.completed != options.lines) {
    throw std::runtime_error(fmt::format("{} of {} lines are done", batch.counts.completed, options.lines));
  }
  std::int64_t stored = 0;
  admin->execute("SELECT CAST(SUM(LENGTH(entries) + LENGTH(lines)) AS BIGINT) FROM result_groups", {},
                 [&](const sql::Row& row) { stored = row.integer(0); });
  print(options, seconds, used, "queue", static_cast<double>(stored) / static_cast<double>(options.lines));
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  CLI::App app("What the queue costs a line; README.md says what the numbers mean.");
  penstock::Options options;
  app.add_option("database", options.database, "an empty database: a path, or a URL of PostgreSQL")->required();
  app.add_option("--workers", options.workers, "sessions that claim and save at the same time");
  app.add_option("--lines", options.lines);
  app.add_option("--group", options.group, "lines a transaction");
  app.add_option("--line-size", options.line_size, "bytes of an output line");
  app.add_flag("--hold", options.hold, "while another session holds a transaction open");
  app.add_option("--bare", options.bare, "no queue: so many bytes a line into a table with nothing but a key");
  CLI11_PARSE(app, argc, argv);
  try {
    options.bare > 0 ? penstock::run_bare(options) : penstock::run_queue(options);
  } catch (const std::exception& e) {
    std::cerr << "work_queue: " << e.what() << '\n';
    return 1;
  }
}
