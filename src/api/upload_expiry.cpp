#include "api/upload_expiry.h"

#include "base/log.h"

namespace penstock {

void remove_parts(BlobStore& blobs, const std::vector<PartId>& parts) {
  for (const PartId& id : parts) blobs.remove(id.value);
}

UploadExpiry::UploadExpiry(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, asio::thread_pool& io)
    : clock_(clock), db_(db), blobs_(blobs), io_(io), changed_(loop), tasks_(loop) {}

void UploadExpiry::start() {
  tasks_.keep("expiring uploads", clock_, [this] { return run(); });
}

Task<> UploadExpiry::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

Task<> UploadExpiry::run() {
  while (true) {
    const Timestamp now = clock_.now();
    const Moment asked = clock_.monotonic();
    const auto next = co_await db_.read([](Store& store) { return store.next_upload_expiry(); });
    if (!next) {
      co_await changed_.wait();
    } else if (*next > now) {
      co_await changed_.wait_until(clock_, asked + (*next - now));
    } else {
      const auto ended = co_await db_.write([&](Store& store) { return store.expire_uploads(now); });
      for (const EndedUpload& one : ended) {
        log::info("upload {}: expired", one.upload.id.value);
        co_await blocking(io_, [&] { remove_parts(blobs_, one.parts); });
      }
    }
  }
}

}  // namespace penstock
