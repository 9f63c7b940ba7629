#pragma once
#include <string>

#include "base/error.h"
#include "model/access.h"

// Projects and keys as JSON, in the shapes of OpenAI's administration API where that has them.
namespace penstock::wire {

constexpr std::int64_t kWeightMax = 1'000;
constexpr std::int64_t kKeySecondsMax = 100ll * 365 * 86'400;  // that a key, or an overlap of two, may last

// What POST /v1/organization/projects may say, and of one that is there already what is to be other than `before`: its
// name, weight and limits, of which null is none.
Result<Project> parse_project(std::string_view body, Project before);

// What POST /v1/organization/api_keys may say.
struct NewKey {
  std::string name;
  std::optional<ProjectId> project;
  Scopes scopes;  // files and batches, when nothing is said
  std::optional<std::int64_t> expires_in_seconds;
};
Result<NewKey> parse_new_key(std::string_view body);

// What POST /v1/organization/api_keys/{id}/rotate may say: the seconds that the old key lives on. The body may be
// empty.
Result<std::int64_t> parse_overlap(std::string_view body);
constexpr std::int64_t kOverlapSeconds = 86'400;  // when nothing is said

// A name of a project or a key; nothing is wrong with it when there is no error.
std::optional<Error> refuse_name(std::string_view name);

std::string to_json(const Project& project);
// `text`: the key itself, which is told once.
std::string to_json(const ApiKey& key, const std::optional<std::string>& text = std::nullopt);
std::string deleted_key(const KeyId& id);

}  // namespace penstock::wire
