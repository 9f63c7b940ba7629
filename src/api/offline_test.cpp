#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "api/routes.h"
#include "base/log.h"
#include "batch/fleet.h"
#include "testing/process.h"
#include "testing/text.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr Millis kTick{1};

// A server without a worker of its own; signs of others are put into its database.
class OfflineTest : public testing::Test {
 protected:
  OfflineTest() {
    log::set_level(log::Level::off);
    const auto input = disk.blobs->create("file-1");
    input->write(input_lines(0, 1));
    input->commit();
    write([&](Store& store) {
      store.insert_file({{"file-1"}, "in.jsonl", "batch", 1, clock.now(), std::nullopt});
      store.insert_file({{"file-2"}, "notes.txt", "user_data", 1, clock.now(), std::nullopt});
    });
  }
  ~OfflineTest() override {
    run_task(loop, lifecycle.stop());
    log::set_level(log::Level::info);
  }

  template <class F>
  void write(F f) {
    run_task(loop, disk.db.write(std::move(f)));
  }
  void sign(Timestamp at) {
    write([&](Store& store) {
      store.join("worker_1", true, at);
      store.bury("worker_1");
    });
  }

  Response ask(const std::string& method, const std::string& path, const std::string& body = "") {
    Text text(body);
    Request request{
        .method = method, .path = path, .query = {}, .headers = {}, .body_size = {}, .body = &text, .client_gone = {}};
    return run_task(loop, dispatch(services, request));
  }
  Response create(const std::string& file = "file-1", const std::string& endpoint = "/v1/chat/completions") {
    return ask(
        "POST", "/v1/batches",
        json::serialize(json::object{{"input_file_id", file}, {"endpoint", endpoint}, {"completion_window", "24h"}}));
  }
  static std::string message(const Response& response) {
    return std::string(json::parse(response.body).at("error").at("message").as_string());
  }
  json::value queue() { return json::parse(ask("GET", "/v1/queue").body); }

  FaultyDisk faulty;
  Disk& disk = faulty.disk;
  asio::io_context loop;
  FakeClock clock{loop};
  Engines engines{loop, clock};
  Estimator estimator;
  Lifecycle lifecycle{loop,
                      clock,
                      disk.db,
                      *disk.blobs,
                      engines,
                      nullptr,
                      {.process = "test", .scratch_directory = disk.folder.path()}};
  asio::thread_pool io{1};
  Expiry expiry{loop, clock, disk.db, *disk.blobs, io};
  Deliveries deliveries{loop, clock, disk.db, {.process = "test"}};
  const AllowList webhook_allow;
  Authenticator authenticator{loop, clock, disk.db, false};
  Services services{.clock = clock,
                    .db = disk.db,
                    .blobs = *disk.blobs,
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

TEST_F(OfflineTest, ABatchIsRefusedWhenNoWorkerWasEverSeen) {
  const Response refused = create();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(json::parse(refused.body).at("error"), (json::value{{"message", "Worker offline (never seen)"},
                                                                {"type", "server_error"},
                                                                {"param", nullptr},
                                                                {"code", "worker_offline"}}));
  EXPECT_EQ(refused.headers.find("Retry-After"), "10");
  EXPECT_EQ(queue().at("data"), json::array()) << "it was stored";
}

TEST_F(OfflineTest, ABatchIsRefusedOnceTheLastSignIsOlderThanAMinute) {
  sign(clock.now());
  clock.advance(kOfflineAfter);
  EXPECT_EQ(create().status, 200);
  clock.advance(kTick);
  EXPECT_EQ(create().status, 503);
  clock.advance(Millis{1'000} - kTick);
  EXPECT_EQ(message(create()), "Worker offline (last seen 61s ago)");
  clock.advance(Millis{3'600'000} - kTick);
  EXPECT_EQ(message(create()), "Worker offline (last seen 3660s ago)");
  sign(clock.now());
  EXPECT_EQ(create().status, 200);
}

TEST_F(OfflineTest, WhileTheDatabaseIsAwayEverythingIs503) {
  for (const auto kind : {sql::Failure::Kind::away, sql::Failure::Kind::busy, sql::Failure::Kind::conflict}) {
    faulty.connection.kind = kind;
    for (const auto& [method, path] : {std::pair("POST", "/v1/batches/batch_1/cancel"), {"GET", "/v1/batches"}}) {
      faulty.connection.failures = Sessions::kTries;
      faulty.connection.statements_left = 0;
      const Response response = ask(method, path);
      EXPECT_EQ(response.status, 503) << path;
      EXPECT_EQ(json::parse(response.body).at("error").at("code"), "database_away");
      EXPECT_EQ(response.headers.find("Retry-After"), "10");
      faulty.connection.statements_left = -1;
    }
  }
  EXPECT_EQ(ask("GET", "/v1/batches").status, 200);
}

TEST_F(OfflineTest, ASignFromBeforeTheClockWasSetBackCounts) {
  sign(clock.now() + std::chrono::hours(1));
  EXPECT_EQ(create().status, 200);
}

TEST_F(OfflineTest, OurOwnWorkerIsThereWhateverTheWallClockSays) {
  sign(clock.now() - std::chrono::hours(1));
  services.has_worker = true;
  EXPECT_EQ(create().status, 200);
  EXPECT_EQ(queue().at("worker").at("status"), "online");
}

TEST_F(OfflineTest, ABatchIsQueuedWhenTheOperatorWantsThat) {
  services.limits.accept_when_offline = true;
  EXPECT_EQ(create().status, 200);
  EXPECT_EQ(queue().at("data").as_array().size(), 1u);
  EXPECT_EQ(queue().at("worker").at("status"), "offline");
}

TEST_F(OfflineTest, AFaultOfTheRequestIsToldFirstAndAFullQueueLast) {
  EXPECT_EQ(create("file-1", "/v1/nothing").status, 400);
  EXPECT_EQ(create("file-2").status, 400);
  EXPECT_EQ(create("file-3").status, 400);
  services.limits.queue.depth = 1;
  services.limits.accept_when_offline = true;
  ASSERT_EQ(create().status, 200);
  EXPECT_EQ(create().status, 429);
  services.limits.accept_when_offline = false;
  EXPECT_EQ(create().status, 503);
}

TEST_F(OfflineTest, WhatIsQueuedCanStillBeSeenMovedAndCancelled) {
  sign(clock.now());
  const std::string batch = "/v1/batches/" + std::string(json::parse(create().body).at("id").as_string());
  clock.advance(2 * kOfflineAfter);
  ASSERT_EQ(create().status, 503);
  EXPECT_EQ(ask("GET", "/v1/batches").status, 200);
  EXPECT_EQ(ask("GET", batch).status, 200);
  EXPECT_EQ(ask("POST", batch, R"({"priority": 1})").status, 200);
  EXPECT_EQ(ask("POST", batch + "/cancel").status, 200);
}

TEST_F(OfflineTest, TheQueueSaysHowDeepItIsAndWhenAWorkerWasSeen) {
  EXPECT_EQ(queue().at("worker"), json::parse(R"({"status": "offline", "last_seen_at": null})"));
  const auto seconds = std::chrono::floor<std::chrono::seconds>(clock.now()).time_since_epoch().count();
  sign(clock.now());
  ASSERT_EQ(create().status, 200);
  clock.advance(kOfflineAfter);
  EXPECT_EQ(queue().at("worker"), (json::value{{"status", "online"}, {"last_seen_at", seconds}}));
  EXPECT_EQ(queue().at("depth"), 1);
  EXPECT_EQ(queue().at("max_depth"), 20);
  clock.advance(kTick);
  services.limits.queue.depth = 0;
  EXPECT_EQ(queue().at("worker"), (json::value{{"status", "offline"}, {"last_seen_at", seconds}}));
  EXPECT_EQ(queue().at("max_depth"), nullptr);
}

}  // namespace
}  // namespace penstock
