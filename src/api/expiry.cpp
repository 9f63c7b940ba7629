#include "api/expiry.h"

#include <algorithm>

#include "base/log.h"
#include "batch/plan.h"
#include "store/access.h"

namespace penstock {
namespace {

std::optional<Timestamp> next_expiry(Store& store) {
  const auto upload = store.next_upload_expiry(), file = store.next_file_expiry();
  return upload && file ? std::min(upload, file) : std::max(upload, file);  // nothing is less than any time
}

// What the server does of itself has no key.
void note(Store& store, Timestamp now, const ProjectId& project, std::string action, std::string object_id) {
  AuditEntry entry;
  entry.at = now;
  entry.project = project;
  entry.action = std::move(action);
  entry.object_id = std::move(object_id);
  Access(store).audit(entry);
}

constexpr std::int64_t kAuditAtOnce = 1'000;
constexpr Millis kLookAgain = std::chrono::hours(1);  // other processes may have made something, and be gone

}  // namespace

void remove_blob(BlobStore& blobs, const std::string& key) {
  try {
    blobs.remove(key);
  } catch (const StorageAway& e) {
    log::warn("a blob that nobody needs stays until blobs are looked through: {}", e.what());
  }
}

void remove_file(BlobStore& blobs, const FileId& id) {
  remove_blob(blobs, plan_key(id));
  remove_blob(blobs, id.value);
}

void remove_parts(BlobStore& blobs, const std::vector<PartId>& parts) {
  for (const PartId& id : parts) remove_blob(blobs, id.value);
}

Expiry::Expiry(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, asio::thread_pool& io)
    : clock_(clock), db_(db), blobs_(blobs), io_(io), changed_(loop), tasks_(loop) {}

void Expiry::start() {
  tasks_.keep("expiring files and uploads", clock_, [this] { return run(); });
  tasks_.keep("removing old entries of the audit log", clock_, [this] { return purge_audit_log(); });
}

Task<> Expiry::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

// Nobody minds an hour of a year.
Task<> Expiry::purge_audit_log() {
  while (true) {
    std::int64_t purged = kAuditAtOnce;
    while (purged == kAuditAtOnce) {
      purged = co_await db_.write(
          [&](Store& store) { return Access(store).purge_audit_log(clock_.now() - kAuditKept, kAuditAtOnce); });
    }
    co_await sleep_until(clock_, clock_.monotonic() + kLookAgain);
  }
}

Task<> Expiry::run() {
  while (true) {
    const Timestamp now = clock_.now();
    const Moment asked = clock_.monotonic();
    const auto next = co_await db_.read(next_expiry);
    if (!next) {
      co_await changed_.wait_until(clock_, asked + kLookAgain);
    } else if (*next > now) {
      co_await changed_.wait_until(clock_, asked + std::min<Millis>(*next - now, kLookAgain));
    } else {
      const auto uploads = co_await db_.write([&](Store& store) {
        auto expired = store.expire_uploads(now);
        for (const EndedUpload& one : expired) {
          note(store, now, one.upload.project, "upload.expired", one.upload.id.value);
        }
        return expired;
      });
      for (const EndedUpload& one : uploads) {
        log::info("upload {}: expired", one.upload.id.value);
        co_await blocking(io_, [&] { remove_parts(blobs_, one.parts); });
      }
      const auto files = co_await db_.write([&](Store& store) {
        auto expired = store.expire_files(now);
        for (const File& file : expired) note(store, now, file.project, "file.expired", file.id.value);
        return expired;
      });
      for (const File& file : files) {
        log::info("file {}: expired", file.id.value);
        co_await blocking(io_, [&] { remove_file(blobs_, file.id); });
      }
      if (on_removed && !(uploads.empty() && files.empty())) on_removed();
    }
  }
}

}  // namespace penstock
