#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "api/routes.h"
#include "base/log.h"
#include "testing/memory_blobs.h"
#include "testing/process.h"
#include "testing/text.h"

namespace penstock {
namespace {

// A server whose blobs cannot be reached from some time on.
class StorageAwayTest : public testing::Test {
 protected:
  StorageAwayTest() {
    log::set_level(log::Level::off);
    for (const char* key : {"file-1", "plan-file-1"}) {
      const auto writer = blobs.create(key);
      writer->write("bytes");
      writer->commit();
    }
    run_task(loop, disk.db.write([&](Store& store) {
      store.migrate();
      store.insert_file({{"file-1"}, "in.jsonl", "batch", 5, clock.now(), std::nullopt});
    }));
  }
  ~StorageAwayTest() override {
    run_task(loop, lifecycle.stop());
    log::set_level(log::Level::info);
  }

  Response ask(const std::string& method, const std::string& path, const std::string& form = "") {
    Text text(form);
    Request request{
        .method = method, .path = path, .query = {}, .headers = {}, .body_size = {}, .body = &text, .client_gone = {}};
    request.headers.add("Content-Type", "multipart/form-data; boundary=b");
    return run_task(loop, dispatch(services, request));
  }
  static void expect_away(const Response& response) {
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.headers.find("Retry-After"), "10");
    EXPECT_EQ(boost::json::parse(response.body).at("error").at("code"), "storage_away");
  }

  MemoryDisk bytes;
  Disk disk{sql::open_sqlite(":memory:"), std::make_unique<MemoryBlobs>(bytes)};
  MemoryBlobs& blobs = static_cast<MemoryBlobs&>(*disk.blobs);
  asio::io_context loop;
  FakeClock clock{loop};
  Engines engines{loop, clock};
  Estimator estimator;
  Lifecycle lifecycle{
      loop, clock, disk.db, blobs, engines, nullptr, {.process = "test", .scratch_directory = disk.folder.path()}};
  asio::thread_pool io{1};
  Expiry expiry{loop, clock, disk.db, blobs, io};
  Deliveries deliveries{loop, clock, disk.db, {.process = "test"}};
  const AllowList webhook_allow;
  Authenticator authenticator{loop, clock, disk.db, false};
  Services services{.clock = clock,
                    .db = disk.db,
                    .blobs = blobs,
                    .engines = engines,
                    .estimator = estimator,
                    .lifecycle = lifecycle,
                    .expiry = expiry,
                    .deliveries = deliveries,
                    .webhook_allow = webhook_allow,
                    .authenticator = authenticator,
                    .loop = loop,
                    .io = io,
                    .limits = {},
                    .process = "test",
                    .has_worker = false,
                    .started_at = clock.now()};
};

TEST_F(StorageAwayTest, ClientsAreToldToComeBack) {
  blobs.away = true;
  expect_away(ask("GET", "/v1/files/file-1/content"));
  const std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\n\r\ntext\r\n--b--\r\n";
  expect_away(ask("POST", "/v1/files", form));
  EXPECT_EQ(ask("GET", "/v1/files/file-1").status, 200);
  blobs.away = false;
  EXPECT_EQ(ask("GET", "/v1/files/file-1/content").status, 200);
}

TEST_F(StorageAwayTest, AFileCanBeDeletedAllTheSame) {
  blobs.away = true;
  EXPECT_EQ(ask("DELETE", "/v1/files/file-1").status, 200);
  EXPECT_EQ(ask("GET", "/v1/files/file-1").status, 404);
  EXPECT_EQ(bytes.size(), 2u) << "they are left to who looks through the blobs";
}

}  // namespace
}  // namespace penstock
