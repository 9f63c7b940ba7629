#include "model/wire_access.h"

#include <fmt/format.h>

#include "model/json_fields.h"
#include "model/wire.h"

namespace penstock::wire {
namespace {

constexpr std::size_t kNameMax = 256;  // characters

Result<std::int64_t> read_integer(const json::value& value, const std::string& name, std::int64_t min,
                                  std::int64_t max) {
  if (!value.is_int64() && !value.is_uint64()) return wrong_type(name, "an integer", value);
  const auto* number = value.if_int64();
  if (!number || *number < min || *number > max) {
    return invalid_request(fmt::format("Invalid '{}': must be an integer from {} to {}.", name, min, max), name);
  }
  return *number;
}

Result<std::string> read_name(const json::object& object) {
  Result<std::string> name = required_string(object, "name");
  if (!name) return name.error();
  if (auto error = refuse_name(*name)) return std::move(*error);
  return name;
}

Result<Scopes> read_scopes(const json::value& value) {
  if (!value.is_array()) return wrong_type("scopes", "an array of strings", value);
  std::vector<std::string> words;
  for (const json::value& word : value.get_array()) {
    if (!word.is_string()) return wrong_type("scopes", "an array of strings", word);
    words.emplace_back(word.get_string());
  }
  const auto scopes = parse_scopes(words);
  if (!scopes || scopes->none()) {
    return invalid_request("Invalid 'scopes': expected some of 'files', 'batches' and 'admin'.", "scopes");
  }
  return *scopes;
}

// The limits of a project by their names.
constexpr std::pair<const char*, std::optional<std::int64_t> Quotas::*> kLimits[] = {
    {"stored_bytes", &Quotas::stored_bytes},
    {"active_batches", &Quotas::active_batches},
    {"queued_lines", &Quotas::queued_lines},
    {"requests_per_second", &Quotas::requests_per_second}};

json::value or_null(const std::optional<std::int64_t>& number) {
  return number ? json::value(*number) : json::value();
}

}  // namespace

std::optional<Error> refuse_name(std::string_view name) {
  if (!name.empty() && characters(name) <= kNameMax && is_utf8(name)) return std::nullopt;
  return invalid_request(fmt::format("Invalid 'name': expected 1 to {} characters.", kNameMax), "name");
}

Result<Project> parse_project(std::string_view body, Project project) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  if (project.name.empty() || find(*root, "name")) {
    const Result<std::string> name = read_name(*root);
    if (!name) return name.error();
    project.name = *name;
  }
  if (const json::value* value = find(*root, "weight")) {
    const auto weight = read_integer(*value, "weight", 1, kWeightMax);
    if (!weight) return weight.error();
    project.weight = *weight;
  }
  const json::value* limits = find(*root, "limits");
  if (!limits) return project;
  if (!limits->is_object()) return wrong_type("limits", "an object", *limits);
  for (const auto& [name, member] : kLimits) {
    const json::value* value = limits->get_object().if_contains(name);
    if (!value) continue;
    if (value->is_null()) {
      project.quotas.*member = std::nullopt;
      continue;
    }
    const auto limit =
        read_integer(*value, fmt::format("limits.{}", name), 0, std::numeric_limits<std::int64_t>::max());
    if (!limit) return limit.error();
    project.quotas.*member = *limit;
  }
  return project;
}

Result<NewKey> parse_new_key(std::string_view body) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  NewKey key;
  const Result<std::string> name = read_name(*root);
  if (!name) return name.error();
  key.name = *name;
  if (find(*root, "project_id")) {
    const Result<std::string> project = required_string(*root, "project_id");
    if (!project) return project.error();
    key.project = ProjectId{*project};
  }
  key.scopes = kScopesDefault;
  if (const json::value* value = find(*root, "scopes")) {
    const Result<Scopes> scopes = read_scopes(*value);
    if (!scopes) return scopes.error();
    key.scopes = *scopes;
  }
  if (const json::value* value = find(*root, "expires_in_seconds")) {
    const auto seconds = read_integer(*value, "expires_in_seconds", 1, kKeySecondsMax);
    if (!seconds) return seconds.error();
    key.expires_in_seconds = *seconds;
  }
  return key;
}

Result<std::int64_t> parse_overlap(std::string_view body) {
  if (body.empty()) return kOverlapSeconds;
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  const json::value* value = find(*root, "overlap_seconds");
  if (!value) return kOverlapSeconds;
  return read_integer(*value, "overlap_seconds", 0, kKeySecondsMax);
}

std::string to_json(const Project& project) {
  json::object limits;
  for (const auto& [name, member] : kLimits) limits[name] = or_null(project.quotas.*member);
  return json::serialize(json::object{{"id", project.id.value},
                                      {"object", "organization.project"},
                                      {"name", project.name},
                                      {"status", project.archived_at ? "archived" : "active"},
                                      {"created_at", seconds(project.created_at)},
                                      {"archived_at", optional_time(project.archived_at)},
                                      {"weight", project.weight},
                                      {"limits", std::move(limits)}});
}

std::string to_json(const ApiKey& key, const std::optional<std::string>& text) {
  json::array scopes;
  for (const std::string_view word : words(key.scopes)) scopes.emplace_back(word);
  json::object object{{"id", key.id.value},
                      {"object", "organization.api_key"},
                      {"name", key.name},
                      {"redacted_value", key.hint},
                      {"project_id", key.project.value},
                      {"scopes", std::move(scopes)},
                      {"created_at", seconds(key.created_at)},
                      {"expires_at", optional_time(key.expires_at)},
                      {"revoked_at", optional_time(key.revoked_at)},
                      {"last_used_at", optional_time(key.last_used_at)}};
  if (text) object["value"] = *text;
  return json::serialize(object);
}

std::string deleted_key(const KeyId& id) {
  return json::serialize(json::object{{"id", id.value}, {"object", "organization.api_key.deleted"}, {"deleted", true}});
}

}  // namespace penstock::wire
