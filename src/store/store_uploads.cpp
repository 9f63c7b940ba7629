#include <fmt/core.h>

#include "store/columns.h"
#include "store/store.h"

namespace penstock {
namespace {

constexpr const char* kUploadColumns =
    "id, filename, purpose, bytes, expires_after, status, created_ms, expires_ms, file_id, project";
// The name goes with the file: an upload that has ended has none of its own any more.
constexpr const char* kReadColumns =
    "id, COALESCE((SELECT filename FROM files WHERE files.id = file_id), filename), purpose, bytes, expires_after, "
    "status,"
    " created_ms, expires_ms, file_id, project";

Upload read_upload(const sql::Row& row) {
  Upload upload;
  upload.id.value = row.text(0);
  upload.file = {.filename = std::string(row.text(1)),
                 .purpose = std::string(row.text(2)),
                 .bytes = static_cast<std::uint64_t>(row.integer(3)),
                 .expires_after_seconds = integer_at(row, 4)};
  upload.status = parse_upload_status(row.text(5));
  upload.created_at = from_ms(row.integer(6));
  upload.expires_at = from_ms(row.integer(7));
  if (const auto id = text_at(row, 8)) upload.file_id = FileId{*id};
  upload.project.value = row.text(9);
  return upload;
}

}  // namespace

void Store::insert_upload(const Upload& upload) {
  sql_.execute(
      fmt::format("INSERT INTO uploads ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9)", kUploadColumns),
      {upload.id.value, upload.file.filename, upload.file.purpose, static_cast<std::int64_t>(upload.file.bytes),
       value_of(upload.file.expires_after_seconds), to_string(upload.status), to_ms(upload.created_at),
       to_ms(upload.expires_at), upload.project.value});
}

std::optional<Upload> Store::find_upload(const ProjectId& project, const UploadId& id, Timestamp now) {
  std::optional<Upload> upload;
  sql_.execute(fmt::format("SELECT {} FROM uploads WHERE id = $1 AND project = $2", kReadColumns),
               {id.value, project.value}, [&](const sql::Row& row) { upload = read_upload(row); });
  if (upload && upload->status == UploadStatus::pending && now >= upload->expires_at) {
    upload->status = UploadStatus::expired;
  }
  return upload;
}

Result<Upload> Store::pending_upload(const ProjectId& project, const UploadId& id, Timestamp now) {
  auto upload = find_upload(project, id, now);
  if (!upload) {
    return Error{Error::Kind::not_found, fmt::format("No such Upload object: {}", id.value), "", "upload_id"};
  }
  if (upload->status == UploadStatus::pending) return std::move(*upload);
  return Error{Error::Kind::invalid_request,
               fmt::format("Upload {} has the status '{}'{}, and only a pending one can be changed.", id.value,
                           to_string(upload->status),
                           upload->file_id ? fmt::format(" and became {}", upload->file_id->value) : ""),
               "upload_not_pending", "upload_id"};
}

Result<void> Store::insert_part(const ProjectId& project, const UploadPart& part, Timestamp now) {
  // Its end removes the parts that there are, so it must not end between the two.
  sql_.execute_later("SELECT id FROM uploads WHERE id = $1 /*PG FOR SHARE*/", {part.upload_id.value});
  const auto upload = pending_upload(project, part.upload_id, now);
  if (!upload) return upload.error();
  sql_.execute("INSERT INTO upload_parts (id, upload_id, bytes, created_ms) VALUES ($1, $2, $3, $4)",
               {part.id.value, part.upload_id.value, static_cast<std::int64_t>(part.bytes), to_ms(part.created_at)});
  return {};
}

std::vector<UploadPart> Store::upload_parts(const UploadId& id) {
  std::vector<UploadPart> parts;
  sql_.execute("SELECT id, bytes, created_ms FROM upload_parts WHERE upload_id = $1", {id.value},
               [&](const sql::Row& row) {
                 parts.push_back({.id = {std::string(row.text(0))},
                                  .upload_id = id,
                                  .bytes = static_cast<std::uint64_t>(row.integer(1)),
                                  .created_at = from_ms(row.integer(2))});
               });
  return parts;
}

std::vector<PartId> Store::all_part_ids() {
  std::vector<PartId> ids;
  sql_.execute("SELECT id FROM upload_parts", {},
               [&](const sql::Row& row) { ids.push_back({std::string(row.text(0))}); });
  return ids;
}

Result<EndedUpload> Store::complete_upload(const UploadId& id, const File& file, Timestamp now) {
  auto ended = end_upload(file.project, id, UploadStatus::completed, file.id, now);
  if (ended) insert_file(file);
  return ended;
}

Result<EndedUpload> Store::cancel_upload(const ProjectId& project, const UploadId& id, Timestamp now) {
  return end_upload(project, id, UploadStatus::cancelled, std::nullopt, now);
}

std::vector<EndedUpload> Store::expire_uploads(Timestamp now) {
  std::vector<EndedUpload> ended;
  sql_.execute(fmt::format("UPDATE uploads SET status = 'expired' WHERE status = 'pending' AND expires_ms <= $1 "
                           "RETURNING {}",
                           kUploadColumns),
               {to_ms(now)}, [&](const sql::Row& row) {
                 ended.push_back({read_upload(row), {}});
               });
  for (EndedUpload& one : ended) one.parts = remove_content(one.upload.id);
  return ended;
}

std::optional<Timestamp> Store::next_upload_expiry() {
  std::optional<Timestamp> next;
  sql_.execute("SELECT expires_ms FROM uploads WHERE status = 'pending' ORDER BY expires_ms LIMIT 1", {},
               [&](const sql::Row& row) { next = from_ms(row.integer(0)); });
  return next;
}

std::vector<PartId> Store::remove_content(const UploadId& id) {
  sql_.execute_later("UPDATE uploads SET filename = '' WHERE id = $1", {id.value});
  std::vector<PartId> parts;
  sql_.execute("DELETE FROM upload_parts WHERE upload_id = $1 RETURNING id", {id.value},
               [&](const sql::Row& row) { parts.push_back({std::string(row.text(0))}); });
  return parts;
}

Result<EndedUpload> Store::end_upload(const ProjectId& project, const UploadId& id, UploadStatus end,
                                      const std::optional<FileId>& file, Timestamp now) {
  std::optional<Upload> upload;
  sql_.execute(fmt::format("UPDATE uploads SET status = $2, file_id = $3 "
                           "WHERE id = $1 AND project = $5 AND status = 'pending' AND expires_ms > $4 RETURNING {}",
                           kUploadColumns),
               {id.value, to_string(end), file ? sql::Value(std::string_view(file->value)) : sql::Value(nullptr),
                to_ms(now), project.value},
               [&](const sql::Row& row) { upload = read_upload(row); });
  if (!upload) return pending_upload(project, id, now).error();
  return EndedUpload{std::move(*upload), remove_content(id)};
}

}  // namespace penstock
