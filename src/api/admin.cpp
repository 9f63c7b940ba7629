#include "api/admin.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/api_key_text.h"
#include "model/wire.h"
#include "model/wire_access.h"
#include "store/access.h"

namespace penstock {
namespace {

// The page of `all` that the request asks for: there are never many.
template <class Object>
Response page_of(const Request& request, const std::vector<Object>& all) {
  const auto limit = limit_param(request, 20, 100);
  if (!limit) return error_response(limit.error());
  auto from = all.begin();
  if (const auto after = query_param(request.query, "after")) {
    from = std::find_if(all.begin(), all.end(), [&](const Object& object) { return object.id.value == *after; });
    if (from == all.end()) {
      return error_response({.kind = Error::Kind::not_found,
                             .message = fmt::format("Nothing here has the id {}", *after),
                             .param = "after"});
    }
    ++from;
  }
  const auto end = from + std::min<std::ptrdiff_t>(*limit, all.end() - from);
  std::vector<std::string> items;
  std::transform(from, end, std::back_inserter(items), [](const Object& object) { return wire::to_json(object); });
  return json_response(wire::list(items, items.empty() ? "" : from->id.value, items.empty() ? "" : (end - 1)->id.value,
                                  end != all.end()));
}

template <class Object>
Response answer(const Result<Object>& result) {
  return result ? json_response(wire::to_json(*result)) : error_response(result.error());
}

// Runs `change`, from an Access and the project of the request to the project as it is then, in a transaction.
template <class Change>
Task<Result<Project>> change_project(Context& c, const char* action, Change change) {
  const ProjectId id{c.id};
  co_return co_await c.services.db.write([&](Store& store) {
    Access access(store);
    auto after = access.change_project(id, [&](const Project& before) { return change(access, before); });
    if (after) c.audit(store, action, id.value);
    return after;
  });
}

}  // namespace

Task<Response> list_projects(Context& c) {
  const std::string archived = query_param(c.request.query, "include_archived").value_or("false");
  if (archived != "true" && archived != "false") {
    co_return error_response(
        invalid_request("Invalid 'include_archived': must be 'true' or 'false'.", "include_archived"));
  }
  auto all = co_await c.services.db.read([](Store& store) { return Access(store).projects(); });
  if (archived == "false") {
    std::erase_if(all, [](const Project& project) { return project.archived_at.has_value(); });
  }
  co_return page_of(c.request, all);
}

Task<Response> create_project(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  auto project = wire::parse_project(body, {});
  if (!project) co_return error_response(project.error());
  project->id = {random_id("proj_")};
  project->created_at = c.services.clock.now();
  co_await c.services.db.write([&](Store& store) {
    Access access(store);
    access.insert_project(*project);
    c.audit(store, "project.created", project->id.value);
  });
  co_return answer(project);
}

Task<Response> get_project(Context& c) {
  const ProjectId id{c.id};
  const auto project = co_await c.services.db.read([&](Store& store) { return Access(store).find_project(id); });
  co_return project ? json_response(wire::to_json(*project)) : error_response(no_such_project(id));
}

Task<Response> update_project(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto project = co_await change_project(
      c, "project.updated", [&](Access&, const Project& before) { return wire::parse_project(body, before); });
  co_return answer(project);
}

Task<Response> archive_project(Context& c) {
  const Timestamp now = c.services.clock.now();
  const auto archived =
      co_await change_project(c, "project.archived", [&](Access& access, Project project) -> Result<Project> {
        if (project.id == kDefaultProject) {
          return Error{Error::Kind::conflict, "The default project cannot be archived."};
        }
        const auto admins = access.living_admin_keys(now);
        if (!admins.empty() &&
            std::all_of(admins.begin(), admins.end(), [&](const ApiKey& key) { return key.project == project.id; })) {
          return Error{Error::Kind::conflict,
                       "The only keys with the scope 'admin' are this project's. Make one of another project first."};
        }
        if (!project.archived_at) project.archived_at = now;
        return project;
      });
  co_return answer(archived);
}

Task<Response> list_keys(Context& c) {
  std::optional<ProjectId> project;
  if (auto id = query_param(c.request.query, "project_id")) project = ProjectId{std::move(*id)};
  const auto all = co_await c.services.db.read([&](Store& store) { return Access(store).keys(project); });
  co_return page_of(c.request, all);
}

Task<Response> create_key(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto asked = wire::parse_new_key(body);
  if (!asked) co_return error_response(asked.error());
  const std::string text = make_key_text();
  ApiKey key = new_key(text, c.services.clock.now());
  key.name = asked->name;
  key.project = asked->project.value_or(c.caller.project);
  key.scopes = asked->scopes;
  if (asked->expires_in_seconds) key.expires_at = key.created_at + std::chrono::seconds(*asked->expires_in_seconds);
  const auto inserted = co_await c.services.db.write([&](Store& store) {
    Access access(store);
    auto result = access.insert_key(key, key_hash(text));
    if (result) c.audit(store, "api_key.created", key.id.value);
    return result;
  });
  co_return inserted ? json_response(wire::to_json(key, text)) : error_response(inserted.error());
}

Task<Response> get_key(Context& c) {
  const KeyId id{c.id};
  const auto key = co_await c.services.db.read([&](Store& store) { return Access(store).find_key(id); });
  co_return key ? json_response(wire::to_json(*key)) : error_response(no_such_key(id));
}

Task<Response> rotate_key(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto overlap = wire::parse_overlap(body);
  if (!overlap) co_return error_response(overlap.error());
  const std::string text = make_key_text();
  const ApiKey made = new_key(text, c.services.clock.now());
  const KeyId old{c.id};
  const auto key = co_await c.services.db.write([&](Store& store) {
    Access access(store);
    auto result = access.rotate_key(old, made, key_hash(text), std::chrono::seconds(*overlap));
    if (result) {
      c.audit(store, "api_key.created", made.id.value);
      c.audit(store, "api_key.rotated", old.value);
    }
    return result;
  });
  co_return key ? json_response(wire::to_json(*key, text)) : error_response(key.error());
}

Task<Response> revoke_key(Context& c) {
  const KeyId id{c.id};
  const Timestamp now = c.services.clock.now();
  const auto key = co_await c.services.db.write([&](Store& store) -> Result<ApiKey> {
    Access access(store);
    const auto admins = access.living_admin_keys(now);
    if (admins.size() == 1 && admins.front().id == id) {
      return Error{Error::Kind::conflict,
                   "This is the last key with the scope 'admin'. Make another one first, or use penstock keys revoke."};
    }
    auto result = access.revoke_key(id, now);
    if (result) c.audit(store, "api_key.revoked", id.value);
    return result;
  });
  co_return key ? json_response(wire::deleted_key(id)) : error_response(key.error());
}

}  // namespace penstock
