#include "store/quota.h"

#include <fmt/core.h>

#include "store/access.h"
#include "store/columns.h"

namespace penstock {
namespace {

struct Asked {
  std::string_view quota, unit, remedy;
  std::int64_t used = 0, more = 0;
};

Result<void> check(const Asked& asked, const std::optional<std::int64_t>& limit) {
  if (!limit || asked.used + asked.more <= *limit) return {};
  return Error{
      Error::Kind::quota_exceeded,
      fmt::format("This project's quota {} does not allow that: {} of {} {} are in use, and this needs {} more. "
                  "{}, or ask an administrator for a larger quota.",
                  asked.quota, asked.used, *limit, asked.unit, asked.more, asked.remedy),
      "quota_exceeded"};
}

Quotas quotas_of(Store& store, const ProjectId& project) {
  const auto found = Access(store).find_project(project);
  return found ? found->quotas : Quotas{};
}

Result<void> check_bytes(Store& store, const ProjectId& project, std::uint64_t bytes,
                         const std::optional<std::int64_t>& limit) {
  if (!limit) return {};
  std::int64_t used = 0;
  store.connection().execute(
      "SELECT CAST(COALESCE((SELECT SUM(bytes) FROM files WHERE project = $1), 0)"
      " + COALESCE((SELECT SUM(p.bytes) FROM uploads u JOIN upload_parts p ON p.upload_id = u.id"
      " WHERE u.status = 'pending' AND u.project = $1), 0) AS BIGINT)",
      {project.value}, [&](const sql::Row& row) { used = row.integer(0); });
  return check({.quota = "stored_bytes",
                .unit = "bytes",
                .remedy = "Delete files that you no longer need",
                .used = used,
                .more = static_cast<std::int64_t>(bytes)},
               limit);
}

}  // namespace

Result<void> check_batch(Store& store, const ProjectId& project, std::int64_t lines) {
  const Quotas quotas = quotas_of(store, project);
  if (!quotas.active_batches && !quotas.queued_lines) return {};
  std::int64_t active = 0, queued = 0;
  store.connection().execute(
      "SELECT COUNT(*), CAST(COALESCE(SUM(total - (SELECT COALESCE(SUM(completed + failed), 0) FROM spans"
      " WHERE batch_seq = batches.seq)), 0) AS BIGINT) FROM batches WHERE " PENSTOCK_UNFINISHED
      " AND project || '' = $1",  // so that the index of those that have not ended is used
      {project.value}, [&](const sql::Row& row) {
        active = row.integer(0);
        queued = row.integer(1);
      });
  constexpr std::string_view kRemedy = "Wait until batches of yours have ended, or cancel some";
  auto checked = check({.quota = "active_batches", .unit = "batches", .remedy = kRemedy, .used = active, .more = 1},
                       quotas.active_batches);
  if (!checked) return checked;
  return check({.quota = "queued_lines", .unit = "lines", .remedy = kRemedy, .used = queued, .more = lines},
               quotas.queued_lines);
}

Result<void> check_bytes(Store& store, const ProjectId& project, std::uint64_t bytes) {
  return check_bytes(store, project, bytes, quotas_of(store, project).stored_bytes);
}

Result<void> admit_bytes(Store& store, const ProjectId& project, std::uint64_t bytes) {
  const auto limit = quotas_of(store, project).stored_bytes;
  if (limit) store.connection().lock("bytes " + project.value);
  return check_bytes(store, project, bytes, limit);
}

}  // namespace penstock
