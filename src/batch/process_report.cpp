#include "batch/process_report.h"

#include <boost/json.hpp>

namespace penstock {
namespace {

namespace json = boost::json;

json::object to_json(const ProcessReport::Engine& engine) {
  return {{"name", engine.name},
          {"managed", engine.is_managed},
          {"shared", engine.is_shared},
          {"models", json::value_from(engine.models)},
          {"state", engine.state},
          {"reason", engine.reason},
          {"slots", engine.slots},
          {"slots_busy", engine.slots_busy},
          {"waiting", engine.waiting},
          {"lines", engine.lines},
          {"lines_per_second", engine.lines_per_second},
          {"tokens_per_second", engine.tokens_per_second}};
}

template <class T>
T get(const json::value& said, json::string_view name) {
  return json::value_to<T>(said.at(name));
}

ProcessReport::Engine read_engine(const json::value& said) {
  ProcessReport::Engine engine;
  engine.name = get<std::string>(said, "name");
  engine.is_managed = get<bool>(said, "managed");
  engine.is_shared = get<bool>(said, "shared");
  engine.models = get<std::vector<std::string>>(said, "models");
  engine.state = get<std::string>(said, "state");
  engine.reason = get<std::string>(said, "reason");
  engine.slots = get<std::int64_t>(said, "slots");
  engine.slots_busy = get<std::int64_t>(said, "slots_busy");
  engine.waiting = get<std::int64_t>(said, "waiting");
  engine.lines = get<std::int64_t>(said, "lines");
  engine.lines_per_second = get<double>(said, "lines_per_second");
  engine.tokens_per_second = get<double>(said, "tokens_per_second");
  return engine;
}

}  // namespace

json::object to_json(const ProcessReport& report) {
  json::array engines;
  for (const ProcessReport::Engine& engine : report.engines) engines.push_back(to_json(engine));
  return {{"host", report.host},
          {"version", report.version},
          {"pid", report.pid},
          {"started_at_ms", report.started_at.time_since_epoch().count()},
          {"draining", report.is_draining},
          {"disk_low", report.is_disk_low},
          {"lines", report.lines},
          {"failed", report.failed},
          {"tokens", {report.usage.input, report.usage.cached, report.usage.output, report.usage.reasoning}},
          {"engines", std::move(engines)}};
}

void read(const json::value& said, ProcessReport& report) {
  ProcessReport got = report;
  try {
    got.host = get<std::string>(said, "host");
    got.version = get<std::string>(said, "version");
    got.pid = get<std::int64_t>(said, "pid");
    got.started_at = Timestamp(Millis(get<std::int64_t>(said, "started_at_ms")));
    got.is_draining = get<bool>(said, "draining");
    got.is_disk_low = get<bool>(said, "disk_low");
    got.lines = get<std::int64_t>(said, "lines");
    got.failed = get<std::int64_t>(said, "failed");
    const auto tokens = get<std::vector<std::int64_t>>(said, "tokens");
    got.usage = {.input = tokens.at(0), .cached = tokens.at(1), .output = tokens.at(2), .reasoning = tokens.at(3)};
    for (const json::value& engine : said.at("engines").as_array()) got.engines.push_back(read_engine(engine));
  } catch (const std::exception&) {
    return;
  }
  report = std::move(got);
}

}  // namespace penstock
