#include "cli/commands.h"
#include "cli/operator.h"
#include "model/api_key_text.h"
#include "model/wire.h"
#include "model/wire_access.h"
#include "store/access.h"

namespace penstock {
namespace {

Scopes scopes_of(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t from = 0; from <= text.size();) {
    const auto comma = std::min(text.find(',', from), text.size());
    words.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  const auto scopes = parse_scopes(words);
  if (!scopes) {
    throw UsageError(
        fmt::format("--scopes: '{}': expected some of files, batches, admin and monitor, with commas between", text));
  }
  return *scopes;
}

// The key itself alone goes to standard output, for a shell to catch.
void tell(const ApiKey& key, const std::string& text, const OperatorDatabase& database, bool json) {
  fmt::print("{}\n", json ? wire::to_json(key, text) : text);
  fmt::print(stderr, "{} of {} in {}, scopes: {}, expires: {}. It is shown this once.\n", key.id.value,
             key.project.value, database.name(), fmt::join(words(key.scopes), ","),
             key.expires_at ? time_text(key.expires_at) : "never");
}

std::string state(const ApiKey& key, Timestamp now) {
  if (key.revoked_at) return "revoked";
  return lives(key, now) ? "active" : "expired";
}

std::string limit_text(const std::optional<std::int64_t>& limit) {
  return limit ? std::to_string(*limit) : "-";
}

// The list as the API gives it.
template <class Object>
void print_json(const std::vector<Object>& all) {
  std::vector<std::string> items;
  for (const Object& object : all) items.push_back(wire::to_json(object));
  fmt::print("{}\n",
             wire::list(items, all.empty() ? "" : all.front().id.value, all.empty() ? "" : all.back().id.value, false));
}

void tell(const Project& project, bool json) {
  if (json) {
    fmt::print("{}\n", wire::to_json(project));
  } else {
    fmt::print("{}\n", project.id.value);
  }
}

// A project that is there, changed by `change`, from what it is to what it will be.
template <class Change>
int change_project(const Config& config, const AccessOptions& options, const char* action, Change change) {
  OperatorDatabase database(config, false);
  const ProjectId id{*options.id};
  tell(done(database.write([&](Store& store) {
         auto after = Access(store).change_project(id, change);
         if (after) audit(store, id, action, id.value);
         return after;
       })),
       options.json);
  return kExitOk;
}

// The options that were given, as the API would have them.
std::string project_body(const AccessOptions& options) {
  std::vector<std::string> fields, limits;
  if (options.name) fields.push_back(fmt::format(R"("name":{})", wire::quoted(*options.name)));
  for (const auto& [name, text] : options.limits) {
    const bool is_number = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number && text != "none") {
      throw UsageError(fmt::format("{}: '{}': expected a whole number, or none for no limit", name, text));
    }
    auto& list = name == "weight" ? fields : limits;
    list.push_back(fmt::format(R"("{}":{})", name, is_number ? text : "null"));
  }
  fields.push_back(fmt::format(R"("limits":{{{}}})", fmt::join(limits, ",")));
  return fmt::format("{{{}}}", fmt::join(fields, ","));
}

}  // namespace

int keys_create(const Config& config, const AccessOptions& options) {
  const std::string text = make_key_text();
  ApiKey key = new_key(text, wall_clock());
  key.name = options.name.value_or("");
  if (const auto error = wire::refuse_name(key.name)) throw UsageError("--name: " + error->message);
  key.project = options.project ? ProjectId{*options.project} : kDefaultProject;
  key.scopes = options.scopes ? scopes_of(*options.scopes) : kScopesDefault;
  if (options.expires) key.expires_at = key.created_at + parse_duration("--expires", *options.expires);
  OperatorDatabase database(config, true);
  done(database.write([&](Store& store) {
    Access access(store);
    auto inserted = access.insert_key(key, key_hash(text));
    if (inserted) audit(store, key.project, "api_key.created", key.id.value);
    return inserted;
  }));
  tell(key, text, database, options.json);
  return kExitOk;
}

int keys_list(const Config& config, const AccessOptions& options) {
  OperatorDatabase database(config, false);
  std::optional<ProjectId> project;
  if (options.project) project = ProjectId{*options.project};
  const auto all = database.write([&](Store& store) { return Access(store).keys(project); });
  if (options.json) {
    print_json(all);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows{
      {"ID", "PROJECT", "NAME", "KEY", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED"}};
  for (const ApiKey& key : all) {
    rows.push_back({key.id.value, key.project.value, key.name, key.hint,
                    fmt::format("{}", fmt::join(words(key.scopes), ",")), state(key, wall_clock()),
                    time_text(key.created_at), time_text(key.expires_at), time_text(key.last_used_at)});
  }
  print_table(rows);
  return kExitOk;
}

int keys_rotate(const Config& config, const AccessOptions& options) {
  const auto overlap =
      options.overlap ? parse_duration("--overlap", *options.overlap) : std::chrono::seconds(wire::kOverlapSeconds);
  OperatorDatabase database(config, false);
  const KeyId old{*options.id};
  const std::string text = make_key_text();
  const ApiKey made = new_key(text, wall_clock());
  const ApiKey key = done(database.write([&](Store& store) {
    Access access(store);
    auto result = access.rotate_key(old, made, key_hash(text), overlap);
    if (result) {
      audit(store, result->project, "api_key.created", made.id.value);
      audit(store, result->project, "api_key.rotated", old.value);
    }
    return result;
  }));
  tell(key, text, database, options.json);
  return kExitOk;
}

int keys_revoke(const Config& config, const AccessOptions& options) {
  OperatorDatabase database(config, false);
  const KeyId id{*options.id};
  const ApiKey key = done(database.write([&](Store& store) {
    Access access(store);
    auto result = access.revoke_key(id, wall_clock());
    if (result) audit(store, result->project, "api_key.revoked", id.value);
    return result;
  }));
  if (options.json) fmt::print("{}\n", wire::to_json(key));
  fmt::print(stderr, "{} is revoked; every server refuses it within a second\n", id.value);
  return kExitOk;
}

int projects_create(const Config& config, const AccessOptions& options) {
  Project project = done(wire::parse_project(project_body(options), {}));
  project.id = {random_id("proj_")};
  project.created_at = wall_clock();
  OperatorDatabase database(config, true);
  database.write([&](Store& store) {
    Access access(store);
    access.insert_project(project);
    audit(store, project.id, "project.created", project.id.value);
  });
  tell(project, options.json);
  return kExitOk;
}

int projects_list(const Config& config, const AccessOptions& options) {
  OperatorDatabase database(config, false);
  const auto all = database.write([](Store& store) { return Access(store).projects(); });
  if (options.json) {
    print_json(all);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows{
      {"ID", "NAME", "STATE", "WEIGHT", "STORED BYTES", "ACTIVE BATCHES", "QUEUED LINES", "REQUESTS A SECOND"}};
  for (const Project& project : all) {
    const Quotas& quotas = project.quotas;
    rows.push_back({project.id.value, project.name, project.archived_at ? "archived" : "active",
                    std::to_string(project.weight), limit_text(quotas.stored_bytes), limit_text(quotas.active_batches),
                    limit_text(quotas.queued_lines), limit_text(quotas.requests_per_second)});
  }
  print_table(rows);
  return kExitOk;
}

int projects_set(const Config& config, const AccessOptions& options) {
  return change_project(config, options, "project.updated",
                        [&](const Project& before) { return wire::parse_project(project_body(options), before); });
}

int projects_archive(const Config& config, const AccessOptions& options) {
  return change_project(config, options, "project.archived", [&](Project project) -> Result<Project> {
    if (project.id == kDefaultProject) {
      return Error{Error::Kind::conflict, "The default project cannot be archived."};
    }
    if (!project.archived_at) project.archived_at = wall_clock();
    return project;
  });
}

}  // namespace penstock
