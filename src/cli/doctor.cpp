#include "cli/doctor.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "api/origin.h"
#include "cli/commands.h"
#include "cli/model_setup.h"
#include "cli/operator.h"
#include "engine/http_engine.h"
#include "model/wire.h"
#include "net/address.h"
#include "net/loopback.h"
#include "net/tls.h"
#include "sql/postgres_address.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using enum Finding::Level;

constexpr std::uint64_t kRoomSpare = 10;                                             // reserves that are better left
constexpr std::uint64_t kDescriptorsMin = 4'096;                                     // for some thousand clients
constexpr Timestamp kBuilt{std::chrono::sys_days(std::chrono::January / 1 / 2026)};  // no clock is right before
constexpr Millis kEnginePatience{5'000}, kEnginePeriod{20};
constexpr int kCertificateDaysMin = 30;
constexpr Millis kKeyEndsSoon = std::chrono::hours(7 * 24), kKeyIdle = std::chrono::hours(90 * 24);

std::optional<asio::ip::address> parse_address(const std::string& host) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  return error ? std::nullopt : std::optional(address);
}

// Names that no public zone has, and addresses that are not public.
bool is_inside(const std::string& host) {
  if (is_local(host)) return true;
  if (const auto address = parse_address(host)) return !is_public(*address);
  return host.find('.') == std::string::npos || host.ends_with(".internal") || host.ends_with(".local");
}

std::string mode_text(fs::perms mode) {
  return fmt::format("{:04o}", static_cast<unsigned>(mode & fs::perms::mask));
}

// The folder, or the nearest one above it that is there.
std::string existing(const std::string& folder) {
  fs::path path = fs::absolute(folder);
  while (!fs::exists(path) && path.has_parent_path() && path != path.parent_path()) path = path.parent_path();
  return path;
}

std::string read_file(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

void add(Findings& all, Findings more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

// What an engine says at first, or why it says nothing.
Task<> ask(asio::io_context& loop, Clock& clock, const Config& config, const std::string& url, Finding& finding) {
  Event changed(loop);
  HttpEngine engine(loop, clock,
                    {.endpoint = Endpoint::parse(url).value(),
                     .name = url,
                     .key = config.engine_key,
                     .slots = 1,
                     .only_model = config.only_model},
                    [&] { changed.notify(); });
  TaskGroup tasks(loop);
  tasks.spawn("asking an engine", engine.run());
  // It tells nobody of its first failure, so time is the event.
  const std::string nothing_yet = engine.trouble();
  const Moment end = clock.monotonic() + kEnginePatience;
  while (!engine.ready() && engine.trouble() == nothing_yet && clock.monotonic() < end) {
    co_await changed.wait_until(clock, clock.monotonic() + kEnginePeriod);
  }
  if (!engine.ready()) {
    finding = {fail, "engines", fmt::format("{}: {}", url, engine.trouble()),
               "start it, or mend its address or engine_key; lines for its models wait until then"};
  } else if (engine.models().empty()) {
    finding = {warn, "engines", fmt::format("{} answers and lists no models", url), "have it load one"};
  } else {
    finding = {ok, "engines", fmt::format("{} serves {}", url, fmt::join(engine.models(), ", "))};
  }
  tasks.cancel();
  co_await tasks.join();
}

Task<> ask_all(asio::io_context& loop, Clock& clock, const Config& config, Findings& findings) {
  for (const std::string& url : config.engines) co_await ask(loop, clock, config, url, findings.emplace_back());
}

}  // namespace

bool is_local(const std::string& host) {
  return host.empty() || host.starts_with('/') || is_loopback(host);
}

Finding check_listen(const Config& config, bool has_keys) {
  const std::string where = fmt::format("{}:{}", config.listen_host, config.listen_port);
  if (is_local(config.listen_host)) {
    if (has_keys) return {ok, "listen", fmt::format("only this machine reaches {}, and who calls needs a key", where)};
    if (config.insecure) {
      return {warn, "listen", fmt::format("pages of any site in a browser on this machine may call {}", where),
              "leave --insecure out, or make a key with penstock keys create"};
    }
    return {ok, "listen", fmt::format("only this machine reaches {}; whoever is on it may do everything", where),
            "penstock keys create makes the first key, from when on all need one"};
  }
  if (!has_keys) {
    return {config.insecure ? warn : fail, "listen",
            fmt::format("other machines reach {}, and nobody needs a key", where),
            "make one with penstock keys create, or listen on 127.0.0.1"};
  }
  if (!config.tls_certificate.empty()) {
    return {ok, "listen", fmt::format("other machines reach {} over TLS, and need a key", where)};
  }
  return {warn, "listen", fmt::format("prompts, answers and keys cross the network to {} in plain text", where),
          "set tls_certificate and tls_key, or have nginx or Caddy in front of it and listen on 127.0.0.1"};
}

Findings check_keys(std::span<const ApiKey> keys, Timestamp now) {
  std::vector<std::string> endless, ending, idle;
  std::size_t alive = 0;
  for (const ApiKey& key : keys) {
    if (key.revoked_at || (key.expires_at && *key.expires_at <= now)) continue;
    ++alive;
    const std::string name = fmt::format("{} ({})", key.id.value, key.name);
    if (!key.expires_at) endless.push_back(name);
    if (key.expires_at && *key.expires_at - now < kKeyEndsSoon) ending.push_back(name);
    if (has(key.scopes, Scope::admin) && now - key.last_used_at.value_or(key.created_at) > kKeyIdle) {
      idle.push_back(name);
    }
  }
  Findings findings;
  const auto tell = [&](const std::vector<std::string>& names, const char* what, const char* advice) {
    if (!names.empty()) findings.push_back({warn, "keys", fmt::format("{}: {}", what, fmt::join(names, ", ")), advice});
  };
  tell(endless, "keys without an end", "rotate them into keys that expire");
  tell(ending, "keys that expire within a week", "rotate them, and tell those who have them");
  tell(idle, "admin keys that nobody has used for 90 days", "revoke them");
  if (findings.empty()) findings.push_back({ok, "keys", fmt::format("{} keys can be used", alive)});
  return findings;
}

Findings check_cors_origins(const std::vector<std::string>& origins) {
  std::vector<std::string> plain;
  for (const std::string& origin : origins) {
    const bool is_plain = origin.starts_with("http://");
    if (is_plain && refuse_foreign(std::string_view(origin).substr(7), {}, {})) plain.push_back(origin);
  }
  if (plain.empty()) return {};
  return {{warn, "cors_origins",
           fmt::format("who is on the way can change the pages of {}, which may call the API", fmt::join(plain, ", ")),
           "serve them over https, and name them so"}};
}

Findings check_webhook_allow(const std::vector<std::string>& entries) {
  const auto allowed = AllowList::parse(entries);
  if (!allowed) return {{fail, "webhook_allow", allowed.error().message, "mend it; no server starts with it"}};
  // Hosts that are named may have any address; blocks are for whatever name a client thinks of.
  const auto admits = allowed->admit("a.name.of.a.client");
  const auto reaches = [&](const char* address) { return admits && admits(asio::ip::make_address(address)); };
  if (reaches("169.254.169.254") || reaches("fd00:ec2::254")) {
    return {{fail, "webhook_allow", "webhooks may call the address where clouds hand out credentials",
             "name the hosts that are meant, or smaller blocks"}};
  }
  if (reaches("127.0.0.1") || reaches("::1")) {
    return {{warn, "webhook_allow", "webhooks may call all that listens on this machine",
             "name the hosts that are meant, or other blocks"}};
  }
  if (entries.empty()) return {{ok, "webhook_allow", "webhooks may call public addresses alone"}};
  return {
      {ok, "webhook_allow", fmt::format("webhooks may call {} besides public addresses", fmt::join(entries, ", "))}};
}

Findings check_tls(const Config& config) {
  if (config.tls_certificate.empty() && config.tls_key.empty()) return {};
  Findings findings;
  try {
    TlsIdentity identity(config.tls_certificate, config.tls_key, Moment{});
    int days = 0, seconds = 0;
    const ASN1_TIME* end = ::X509_get0_notAfter(::SSL_CTX_get0_certificate(&identity.context(Moment{})));
    if (::ASN1_TIME_diff(&days, &seconds, nullptr, end) != 1) throw std::runtime_error("it says no time of its end");
    if (days < 0 || seconds < 0) {
      findings.push_back({fail, "tls_certificate", "the certificate has expired", "renew it"});
    } else if (days < kCertificateDaysMin) {
      findings.push_back({warn, "tls_certificate", fmt::format("the certificate expires in {} days", days),
                          "renew it; a running server takes a new one by itself"});
    } else {
      findings.push_back({ok, "tls_certificate", fmt::format("the certificate is good for {} days", days)});
    }
  } catch (const std::exception& e) {
    findings.push_back({fail, "tls_certificate", e.what(), "mend the files; without them no server starts"});
  }
  add(findings, check_private("tls_key", config.tls_key));
  return findings;
}

Findings check_limits(const Config& config) {
  Findings findings;
  const auto look = [&](const char* key, std::int64_t value, const char* what) {
    if (value == 0) {
      findings.push_back(
          {warn, key, fmt::format("{} have no limit", what), "set one, so that nobody can fill the disk"});
    }
  };
  look("max_queue_depth", config.max_queue_depth, "unfinished batches");
  look("max_requests_per_job", config.max_requests_per_job, "the lines of a batch");
  look("max_total_queued_requests", config.max_total_queued_requests, "the lines of all batches");
  if (findings.empty()) findings.push_back({ok, "limits", "the queue has limits"});
  return findings;
}

Findings check_private(const std::string& topic, const std::string& path) {
  std::error_code missing;
  const fs::file_status status = fs::status(path, missing);
  if (!fs::exists(status)) return {};
  const fs::perms mode = status.permissions();
  const auto has = [&](fs::perms some) { return (mode & some) != fs::perms::none; };
  const std::string only_owner = fmt::format("chmod go= {}", path);
  if (has(fs::perms::others_write) || has(fs::perms::group_write)) {
    return {{fail, topic, fmt::format("others can change {} ({})", path, mode_text(mode)), only_owner}};
  }
  if (has(fs::perms::others_read | fs::perms::others_exec)) {
    return {
        {warn, topic, fmt::format("everybody on this machine can read {} ({})", path, mode_text(mode)), only_owner}};
  }
  if (has(fs::perms::group_read | fs::perms::group_exec)) {
    return {{warn, topic, fmt::format("its group can read {} ({})", path, mode_text(mode)), only_owner}};
  }
  return {{ok, topic, fmt::format("only its owner can read {}", path)}};
}

Findings check_config_file(const std::string& path, const std::vector<std::string>& secrets) {
  const std::string text = read_file(path);
  const bool has_secret = std::any_of(secrets.begin(), secrets.end(), [&](const std::string& secret) {
    return !secret.empty() && text.find(secret) != std::string::npos;
  });
  Findings findings = check_private("config", path);
  for (Finding& finding : findings) {
    if (finding.level != warn) continue;
    // Who may read it may read it all.
    if (has_secret) {
      finding.words += ", and it holds a key or a password";
    } else {
      finding = {ok, "config", fmt::format("only its owner can change {}, and it holds no key", path)};
    }
  }
  return findings;
}

std::vector<std::string> secrets_in(const Config& config) {
  std::vector<std::string> secrets = {config.engine_key};
  if (!config.database.empty()) secrets.push_back(sql::read_address(config.database).password);
  for (const ModelConfig& model : config.models) {
    for (const auto& [name, value] : model.env) secrets.push_back(value);
  }
  for (const SinkOptions& sink : config.sinks) {
    if (const auto* http = std::get_if<HttpSinkOptions>(&sink.to)) {
      for (const auto& [name, value] : http->headers) secrets.push_back(value);
      if (const std::string& target = http->url.target; target.find('?') != std::string::npos)
        secrets.push_back(target);
    } else if (const auto* postgres = std::get_if<PostgresSinkOptions>(&sink.to)) {
      secrets.push_back(sql::read_address(postgres->url).password);
    }
  }
  std::erase(secrets, "");
  return secrets;
}

Finding check_room(const DiskRoom& room, const std::string& folder) {
  const std::uint64_t reserve = disk_reserve(room.size);
  const std::string left = fmt::format("{} of {} are free for {}", memory_text(static_cast<std::int64_t>(room.free)),
                                       memory_text(static_cast<std::int64_t>(room.size)), folder);
  const std::string advice = "free space, or name a folder on a larger disk";
  if (room.free < reserve)
    return {fail, "disk", left + "; no line is sent and nothing is taken until there is more", advice};
  if (room.free < kRoomSpare * reserve) return {warn, "disk", left, advice};
  return {ok, "disk", left};
}

Finding check_descriptors(std::uint64_t limit) {
  const std::string words = fmt::format("a process may have {} files open", limit);
  if (limit < kDescriptorsMin) {
    return {warn, "descriptors", words + ", and a third of them are for clients",
            "raise the hard limit: LimitNOFILE= of systemd, or ulimit -Hn"};
  }
  return {ok, "descriptors", words};
}

Finding check_core_files(std::uint64_t limit) {
  if (limit == 0) return {ok, "core files", "a crash leaves no core file"};
  return {warn, "core files", "a crash leaves a core file, with prompts, answers and keys in it",
          "LimitCORE=0 of systemd, or ulimit -c 0"};
}

Finding check_user(bool is_root) {
  if (is_root)
    return {warn, "user", "this is root", "run it as a user of its own, who needs nothing but the data folder"};
  return {ok, "user", "this is not root"};
}

Finding check_clock(Timestamp now) {
  if (now < kBuilt) {
    return {fail, "clock", "the machine's clock is wrong: it is before this program was written",
            "set it; files and keys expire by it"};
  }
  return {ok, "clock", "the machine's clock may be right"};
}

Findings check_engine_urls(const Config& config) {
  Findings findings;
  for (const std::string& url : config.engines) {
    const Endpoint endpoint = Endpoint::parse(url).value();
    if (endpoint.tls || !endpoint.unix_path.empty() || is_inside(endpoint.host)) continue;
    findings.push_back({warn, "engines",
                        fmt::format("prompts and answers{} cross the network to {} in plain text",
                                    config.engine_key.empty() ? "" : ", and engine_key,", url),
                        "use https, or a tunnel"});
  }
  return findings;
}

Findings check_engines(const Config& config) {
  Findings findings;
  asio::io_context loop;
  SystemClock clock(loop);
  run_until_done(loop, ask_all(loop, clock, config, findings));
  return findings;
}

Findings check_models(const Config& config) {
  Findings findings;
  for (const ModelConfig& model : config.models) {
    if (!config.only_model.empty() && config.only_model != model.name) continue;
    const ModelSetup setup = set_up(model, config);
    for (const std::string& fault : setup.faults) {
      findings.push_back({fail, "models", fault, fmt::format("penstock models check {} says more", model.name)});
    }
    if (setup.faults.empty()) findings.push_back({ok, "models", fmt::format("{} can be served", model.name)});
  }
  return findings;
}

Findings examine(const Config& config, const std::optional<std::string>& config_file, bool database_from_flag) {
  Findings all;
  const std::vector<ApiKey> keys = all_keys(config);
  all.push_back(check_listen(config, !keys.empty()));
  if (!keys.empty()) add(all, check_keys(keys, wall_clock()));
  add(all, check_tls(config));
  add(all, check_cors_origins(config.cors_origins));
  add(all, check_webhook_allow(config.webhook_allow));
  add(all, check_limits(config));

  const std::string file = config_file.value_or(fs::exists(kConfigFile) ? kConfigFile : "");
  if (!file.empty()) add(all, check_config_file(file, secrets_in(config)));
  add(all, check_data(config));
  const std::string folder = existing(config.data);
  all.push_back(check_room(disk_room(folder), folder));
  add(all, check_database_url(config, database_from_flag));
  add(all, check_database(config));
  add(all, check_blobs(config));

  if (config.worker && config.engines.empty() && config.models.empty()) {
    all.push_back({fail, "engines", "there is no engine to answer requests",
                   "name a model with --model FILE.gguf, or an engine with --engine URL"});
  }
  if (config.worker) {
    add(all, check_engine_urls(config));
    add(all, check_engines(config));
    add(all, check_models(config));
  }

  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  all.push_back(check_descriptors(limit.rlim_max));
  ::getrlimit(RLIMIT_CORE, &limit);
  all.push_back(check_core_files(limit.rlim_cur));
  all.push_back(check_user(::geteuid() == 0));
  all.push_back(check_clock(wall_clock()));
  return all;
}

int doctor(const Config& config, const DoctorOptions& options) {
  const Findings findings = examine(config, options.config_file, options.database_from_flag);
  const auto name = [](Finding::Level level) { return level == ok ? "ok" : level == warn ? "warn" : "fail"; };
  std::vector<std::string> items;
  for (const Finding& finding : findings) {
    if (options.json) {
      items.push_back(fmt::format(R"({{"level":"{}","topic":{},"words":{},"advice":{}}})", name(finding.level),
                                  wire::quoted(finding.topic), wire::quoted(finding.words),
                                  finding.advice.empty() ? "null" : wire::quoted(finding.advice)));
    } else {
      items.push_back(fmt::format("{:<4}  {}: {}{}{}", name(finding.level), finding.topic, finding.words,
                                  finding.advice.empty() ? "" : "; ", finding.advice));
    }
  }
  if (options.json) {
    fmt::print("[{}]\n", fmt::join(items, ",\n "));
  } else {
    fmt::print("{}\n", fmt::join(items, "\n"));
  }
  const bool fails =
      std::any_of(findings.begin(), findings.end(), [](const Finding& finding) { return finding.level == fail; });
  return fails ? kExitFaults : kExitOk;
}

}  // namespace penstock
