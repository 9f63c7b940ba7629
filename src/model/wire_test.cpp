#include "model/wire.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace penstock::wire {
namespace {

namespace json = boost::json;

constexpr Timestamp kNow{Millis(1'764'000'000'999)};  // whole seconds are cut off, not rounded

// Just enough for a batch, with more members behind.
std::string new_batch(const std::string& more = "") {
  return R"({"input_file_id":"file-1","endpoint":"/v1/embeddings","completion_window":"24h")" + more + "}";
}

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

std::string pairs(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += fmt::format("{}\"k{}\":\"v\"", i ? "," : "", i);
  return ",\"metadata\":{" + out + "}";
}

TEST(NewBatchTest, ReadsAllThatMayBeSaid) {
  const auto batch = parse_new_batch(new_batch(
      R"(,"metadata":{"z":"1","a":"\u00e9"},"output_expires_after":{"anchor":"created_at","seconds":3600},"x":[1])"));
  ASSERT_TRUE(batch) << batch.error().message;
  EXPECT_EQ(batch->input_file_id.value, "file-1");
  EXPECT_EQ(batch->endpoint, "/v1/embeddings");
  EXPECT_EQ(batch->completion_window, "24h");
  EXPECT_EQ(batch->metadata, (Metadata{{"z", "1"}, {"a", "\xC3\xA9"}}));  // in the client's order
  EXPECT_EQ(batch->output_expires_after_seconds, 3'600);
}

TEST(NewBatchTest, NullCountsAsAbsent) {
  const auto batch = parse_new_batch(new_batch(R"(,"metadata":null,"output_expires_after":null)"));
  ASSERT_TRUE(batch);
  EXPECT_FALSE(batch->metadata);
  EXPECT_FALSE(batch->output_expires_after_seconds);
}

TEST(NewBatchTest, NamesWhatIsWrong) {
  const std::string emoji = "\xF0\x9F\x98\x80";
  const auto metadata = [](const std::string& key, const std::string& value) {
    return fmt::format(R"(,"metadata":{{"{}":"{}"}})", key, value);
  };
  const auto expiry = [](const std::string& json) { return ",\"output_expires_after\":" + json; };
  struct Row {
    std::string body, param, code, words;
  };
  const Row table[] = {
      {"", "", "", "JSON"},
      {"{", "", "", "JSON"},
      {new_batch() + ",", "", "", "JSON"},
      {new_batch(",\"t\":NaN"), "", "", "JSON"},
      {new_batch(",\"t\":[1,]"), "", "", "JSON"},
      {new_batch(",\"t\":\"\xFF\""), "", "", "JSON"},
      {new_batch(std::string(",\"t\":\"\0\"", 8)), "", "", "JSON"},
      {std::string(200'000, '['), "", "", "JSON"},
      {"[]", "", "", "object"},
      {"\"x\"", "", "", "object"},
      {"null", "", "", "object"},
      {"{}", "input_file_id", "missing_required_parameter", "Missing required parameter: 'input_file_id'."},
      {R"({"input_file_id":null})", "input_file_id", "missing_required_parameter", ""},
      {R"({"input_file_id":"f"})", "endpoint", "missing_required_parameter", "'endpoint'"},
      {R"({"input_file_id":"f","endpoint":"e"})", "completion_window", "missing_required_parameter", ""},
      {R"({"input_file_id":7,"endpoint":"e","completion_window":"24h"})", "input_file_id", "invalid_type",
       "expected a string, but got an integer instead"},
      {R"({"input_file_id":"f","endpoint":["e"],"completion_window":"24h"})", "endpoint", "invalid_type", "an array"},
      {R"({"input_file_id":"f","endpoint":"e","completion_window":true})", "completion_window", "invalid_type",
       "a boolean"},
      {new_batch(",\"metadata\":[]"), "metadata", "invalid_type", "expected an object, but got an array instead"},
      {new_batch(",\"metadata\":{\"tags\":[]}"), "metadata.tags", "invalid_type",
       "Invalid type for 'metadata.tags': expected a string, but got an array instead."},
      {new_batch(",\"metadata\":{\"n\":1}"), "metadata.n", "invalid_type", "an integer"},
      {new_batch(",\"metadata\":{\"n\":null}"), "metadata.n", "invalid_type", "null"},
      {new_batch(pairs(17)), "metadata", "object_above_max_properties", "17"},
      {new_batch(metadata(std::string(65, 'k'), "v")), "metadata", "string_above_max_length", "64"},
      {new_batch(metadata(repeated(emoji, 65), "v")), "metadata", "string_above_max_length", "64"},
      {new_batch(metadata("k", std::string(513, 'v'))), "metadata.k", "string_above_max_length", "512"},
      {new_batch(metadata("k", repeated(emoji, 513))), "metadata.k", "string_above_max_length", "512"},
      {new_batch(expiry("7")), "output_expires_after", "invalid_type", ""},
      {new_batch(expiry("{}")), "output_expires_after", "invalid_value", "created_at"},
      {new_batch(expiry(R"({"anchor":"now","seconds":3600})")), "output_expires_after", "invalid_value", "created_at"},
      {new_batch(expiry(R"({"anchor":"created_at"})")), "output_expires_after", "invalid_value", "3600"},
      {new_batch(expiry(R"({"anchor":"created_at","seconds":3599})")), "output_expires_after", "invalid_value", "3600"},
      {new_batch(expiry(R"({"anchor":"created_at","seconds":2592001})")), "output_expires_after", "invalid_value",
       "2592000"},
      {new_batch(expiry(R"({"anchor":"created_at","seconds":"3600"})")), "output_expires_after", "invalid_value", ""},
      {new_batch(expiry(R"({"anchor":"created_at","seconds":1e400})")), "output_expires_after", "invalid_value", ""},
      {new_batch(expiry(R"({"anchor":"created_at","seconds":99999999999999999999})")), "output_expires_after",
       "invalid_value", ""},
  };
  for (const Row& row : table) {
    const auto batch = parse_new_batch(row.body);
    const std::string shown = row.body.substr(0, 200);
    ASSERT_FALSE(batch) << shown;
    EXPECT_EQ(batch.error().kind, Error::Kind::invalid_request) << shown;
    EXPECT_EQ(batch.error().param, row.param) << shown;
    EXPECT_EQ(batch.error().code, row.code) << shown;
    EXPECT_NE(batch.error().message.find(row.words), std::string::npos) << shown << ": " << batch.error().message;
  }
}

TEST(NewBatchTest, TakesEverythingUpToItsLimits) {
  const std::string emoji = "\xF0\x9F\x98\x80";
  for (const std::string& more :
       {pairs(16), fmt::format(R"(,"metadata":{{"{}":"{}"}})", repeated(emoji, 64), repeated(emoji, 512)),
        std::string(R"(,"metadata":{})"),
        std::string(R"(,"output_expires_after":{"anchor":"created_at","seconds":2592000})"),
        std::string(R"(,"deep":[[[[[[[[[[1]]]]]]]]]])"), std::string(R"(,"n":123456789012345678901234567890)")}) {
    EXPECT_TRUE(parse_new_batch(new_batch(more))) << more.substr(0, 200);
  }
}

TEST(NewBatchTest, ThePriorityStandsAtTheTopOrInTheMetadata) {
  EXPECT_EQ(parse_new_batch(new_batch(""))->priority, 0);
  EXPECT_EQ(parse_new_batch(new_batch(R"(,"priority":-1)"))->priority, -1);
  EXPECT_EQ(parse_new_batch(new_batch(R"(,"priority":null)"))->priority, 0);
  EXPECT_EQ(parse_new_batch(new_batch(R"(,"metadata":{"priority":"1"})"))->priority, 1);
  EXPECT_EQ(parse_new_batch(new_batch(R"(,"priority":-1,"metadata":{"priority":"1"})"))->priority, -1);
  for (const char* bad : {R"(,"priority":2)", R"(,"priority":-2)", R"(,"priority":0.5)", R"(,"priority":[])",
                          R"(,"priority":"high")", R"(,"priority":"1 1")"}) {
    const auto batch = parse_new_batch(new_batch(bad));
    ASSERT_FALSE(batch) << bad;
    EXPECT_EQ(batch.error().param, "priority") << bad;
  }
  EXPECT_EQ(parse_new_batch(new_batch(R"(,"metadata":{"priority":"urgent"})")).error().param, "metadata.priority");
}

TEST(NewBatchTest, DedupeIsAskedFor) {
  EXPECT_FALSE(parse_new_batch(new_batch(""))->dedupe);
  EXPECT_FALSE(parse_new_batch(new_batch(R"(,"dedupe":null)"))->dedupe);
  EXPECT_FALSE(parse_new_batch(new_batch(R"(,"dedupe":false)"))->dedupe);
  EXPECT_TRUE(parse_new_batch(new_batch(R"(,"dedupe":true)"))->dedupe);
  for (const char* bad : {R"(,"dedupe":1)", R"(,"dedupe":"true")", R"(,"dedupe":[])"}) {
    const auto batch = parse_new_batch(new_batch(bad));
    ASSERT_FALSE(batch) << bad;
    EXPECT_EQ(batch.error().param, "dedupe") << bad;
  }
}

TEST(PriorityTest, IsTheOneThingThatMayChange) {
  EXPECT_EQ(parse_priority(R"({"priority":1,"unknown":2})").value(), 1);
  EXPECT_EQ(parse_priority("{}").error().code, "missing_required_parameter");
  EXPECT_EQ(parse_priority("[1]").error().kind, Error::Kind::invalid_request);
  EXPECT_EQ(parse_priority(R"({"priority":9})").error().param, "priority");
}

Batch fresh_batch() {
  Batch batch;
  batch.id = {"batch_1"};
  batch.input_file_id = {"file-1"};
  batch.endpoint = "/v1/embeddings";
  batch.completion_window = "24h";
  batch.created_at = kNow;
  batch.expires_at = kNow + std::chrono::hours(24);
  return batch;
}

TEST(BatchJsonTest, ANewBatchHasEveryKeyAndNullWhereNothingIsKnown) {
  EXPECT_EQ(json::parse(to_json(fresh_batch())), json::parse(R"({
    "id": "batch_1", "object": "batch", "endpoint": "/v1/embeddings", "model": null, "errors": null,
    "input_file_id": "file-1", "completion_window": "24h", "status": "validating",
    "priority": 0, "dedupe": false, "retry_of": null, "paused_at": null,
    "queue_position": null, "estimated_start_time": null, "estimated_completion_time": null,
    "lines_per_second": null, "output_file_id": null, "error_file_id": null,
    "created_at": 1764000000, "in_progress_at": null, "expires_at": 1764086400, "finalizing_at": null,
    "completed_at": null, "failed_at": null, "expired_at": null, "cancelling_at": null, "cancelled_at": null,
    "request_counts": {"total": 0, "completed": 0, "failed": 0},
    "usage": {"input_tokens": 0, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 0,
              "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0},
    "metadata": null, "webhook": null, "sinks": null, "deliveries": []})"));
}

TEST(BatchJsonTest, EveryFieldStandsUnderItsOwnName) {
  Batch batch = fresh_batch();
  batch.status = BatchStatus::cancelled;
  batch.priority = -1;
  batch.dedupe = true;
  batch.model = "m";
  batch.metadata = Metadata{{"b", "2"}, {"a", "1"}};
  batch.output_file_id = FileId{"file-out"};
  batch.error_file_id = FileId{"file-err"};
  batch.counts = {9, 6, 3};
  batch.usage = {10, 4, 20, 8};
  const auto at = [&](int s) { return kNow + std::chrono::seconds(s); };
  batch.in_progress_at = at(1);
  batch.finalizing_at = at(2);
  batch.completed_at = at(3);
  batch.failed_at = at(4);
  batch.expired_at = at(5);
  batch.cancelling_at = at(6);
  batch.cancelled_at = at(7);
  batch.paused_at = at(8);
  batch.retry_of = BatchId{"batch_0"};
  batch.errors = {{.code = "c", .message = "m", .param = "p", .line = 3},
                  {.code = "d", .message = "n", .param = {}, .line = {}}};
  batch.error_total = 170;
  batch.webhook = R"({"url":"http://a","secret":"never shown","events":["batch.failed"]})";
  Delivery told;
  told.id = {"wh_1"};
  told.batch_id = batch.id;
  told.receiver = R"({"url":"http://a","secret":"never shown"})";
  told.event = "batch.failed";
  told.attempts = 2;
  told.last_error = "answered 500";
  told.created_at = kNow;
  told.next_at = at(9);
  Delivery brought = told;
  brought.id = {"wh_2"};
  brought.kind = DeliveryKind::sink;
  brought.receiver = R"({"name":"lake"})";
  brought.status = DeliveryStatus::delivered;
  brought.last_error.reset();
  brought.ended_at = at(10);
  brought.position = 70;
  batch.sinks = R"([{"name":"lake"},{"url":"https://h/in"}])";
  const std::string text = to_json(batch, QueuePlace{3, kNow, at(3601), 2.5}, {told, brought});
  EXPECT_EQ(json::parse(text), json::parse(R"({
    "id": "batch_1", "object": "batch", "endpoint": "/v1/embeddings", "model": "m",
    "errors": {"object": "list", "total": 170, "data": [
      {"code": "c", "message": "m", "param": "p", "line": 3},
      {"code": "d", "message": "n", "param": null, "line": null}]},
    "input_file_id": "file-1", "completion_window": "24h", "status": "cancelled",
    "priority": -1, "dedupe": true, "retry_of": "batch_0", "paused_at": 1764000008,
    "queue_position": 3, "estimated_start_time": "2025-11-24T16:00:00Z",
    "estimated_completion_time": "2025-11-24T17:00:01Z", "lines_per_second": 2.5,
    "output_file_id": "file-out", "error_file_id": "file-err",
    "created_at": 1764000000, "in_progress_at": 1764000001, "expires_at": 1764086400, "finalizing_at": 1764000002,
    "completed_at": 1764000003, "failed_at": 1764000004, "expired_at": 1764000005, "cancelling_at": 1764000006,
    "cancelled_at": 1764000007,
    "request_counts": {"total": 9, "completed": 6, "failed": 3},
    "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 20,
              "output_tokens_details": {"reasoning_tokens": 8}, "total_tokens": 30},
    "metadata": {"b": "2", "a": "1"},
    "webhook": {"url": "http://a", "events": ["batch.failed"]}, "sinks": ["lake", {"url": "https://h/in"}],
    "deliveries": [
      {"id": "wh_1", "object": "delivery", "batch_id": "batch_1", "kind": "webhook", "event": "batch.failed",
       "url": "http://a", "sink": null, "status": "pending", "attempts": 2, "bytes_delivered": null, "last_error": "answered 500",
       "created_at": 1764000000, "next_attempt_at": 1764000009, "delivered_at": null},
      {"id": "wh_2", "object": "delivery", "batch_id": "batch_1", "kind": "sink", "event": "batch.failed",
       "url": null, "sink": "lake", "status": "delivered", "attempts": 2, "bytes_delivered": 70, "last_error": null,
       "created_at": 1764000000, "next_attempt_at": null, "delivered_at": 1764000010}]})"));
  EXPECT_NE(text.find(R"("metadata":{"b":"2","a":"1"})"), std::string::npos) << "the client's order is lost";
}

TEST(BatchJsonTest, ABatchThatWaitsForItsTurnIsStillValidating) {
  Batch batch = fresh_batch();
  batch.status = BatchStatus::in_progress;
  EXPECT_EQ(json::parse(to_json(batch)).at("status").as_string(), "validating");
}

TEST(BatchJsonTest, TheStatusIsTheWordOnTheWire) {
  for (const std::string word :
       {"validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"}) {
    Batch batch = fresh_batch();
    batch.status = parse_batch_status(word);
    batch.in_progress_at = kNow;
    EXPECT_EQ(json::parse(to_json(batch)).at("status").as_string(), word);
  }
  EXPECT_THROW(parse_batch_status("done"), std::invalid_argument);
}

TEST(FileJsonTest, HasEveryKey) {
  File file{.id = {"file-1"},
            .filename = "a\"b.jsonl",
            .purpose = "batch",
            .bytes = 12,
            .created_at = kNow,
            .expires_at = {}};
  EXPECT_EQ(json::parse(to_json(file)), json::parse(R"({
    "id": "file-1", "object": "file", "bytes": 12, "created_at": 1764000000, "expires_at": null,
    "filename": "a\"b.jsonl", "purpose": "batch", "status": "processed", "status_details": null})"));
  file.expires_at = kNow + std::chrono::seconds(60);
  EXPECT_EQ(json::parse(to_json(file)).at("expires_at").as_int64(), 1'764'000'060);
}

std::string new_upload(const std::string& more = "") {
  return R"({"filename":"a.jsonl","purpose":"batch","mime_type":"application/jsonl","bytes":7)" + more + "}";
}

TEST(NewUploadTest, ReadsAllThatMayBeSaid) {
  EXPECT_EQ(parse_new_upload(new_upload()).value(), (NewFile{"a.jsonl", "batch", 7, std::nullopt}));
  EXPECT_EQ(parse_new_upload(new_upload(R"(,"expires_after":{"anchor":"created_at","seconds":3600},"x":[1])")).value(),
            (NewFile{"a.jsonl", "batch", 7, 3600}));
  EXPECT_EQ(parse_new_upload(new_upload(R"(,"expires_after":null,"bytes":8000000000)"))->bytes, 8'000'000'000u);
}

TEST(NewUploadTest, NamesWhatIsWrong) {
  const auto but = [](const std::string& member) { return new_upload("," + member); };  // the last one counts
  struct Row {
    std::string body, param, code;
  };
  const Row table[] = {
      {"", "", ""},
      {"[]", "", ""},
      {std::string(200'000, '['), "", ""},
      {"{}", "filename", "missing_required_parameter"},
      {but(R"("filename":null)"), "filename", "missing_required_parameter"},
      {but(R"("filename":7)"), "filename", "invalid_type"},
      {but(R"("purpose":null)"), "purpose", "missing_required_parameter"},
      {but(R"("mime_type":null)"), "mime_type", "missing_required_parameter"},
      {but(R"("mime_type":[])"), "mime_type", "invalid_type"},
      {but(R"("bytes":null)"), "bytes", "missing_required_parameter"},
      {but(R"("bytes":"7")"), "bytes", "invalid_type"},
      {but(R"("bytes":7.5)"), "bytes", "invalid_type"},
      {but(R"("bytes":1e400)"), "bytes", "invalid_type"},
      {but(R"("bytes":0)"), "bytes", "integer_below_min_value"},
      {but(R"("bytes":-9223372036854775808)"), "bytes", "integer_below_min_value"},
      {but(R"("expires_after":7)"), "expires_after", "invalid_type"},
      {but(R"("expires_after":{"anchor":"now","seconds":3600})"), "expires_after", "invalid_value"},
      {but(R"("expires_after":{"anchor":"created_at","seconds":3599})"), "expires_after", "invalid_value"},
  };
  for (const Row& row : table) {
    const auto file = parse_new_upload(row.body);
    const std::string shown = row.body.substr(0, 200);
    ASSERT_FALSE(file) << shown;
    EXPECT_EQ(file.error().kind, Error::Kind::invalid_request) << shown;
    EXPECT_EQ(file.error().param, row.param) << shown;
    EXPECT_EQ(file.error().code, row.code) << shown;
  }
  EXPECT_EQ(parse_new_upload(but(R"("bytes":18446744073709551615)"))->bytes, 18'446'744'073'709'551'615u);
}

TEST(UploadCompletionTest, KeepsTheOrderOfThePartsAndWritesTheHashInLowerCase) {
  const auto some = parse_upload_completion(R"({"part_ids":["part_b","part_a"]})");
  ASSERT_TRUE(some);
  EXPECT_EQ(some->part_ids, (std::vector<PartId>{{"part_b"}, {"part_a"}}));
  EXPECT_FALSE(some->md5);
  EXPECT_EQ(parse_upload_completion(R"({"part_ids":["p"],"md5":"D41D8CD98F00B204E9800998ECF8427E"})")->md5,
            "d41d8cd98f00b204e9800998ecf8427e");
}

TEST(UploadCompletionTest, NamesWhatIsWrong) {
  struct Row {
    std::string body, param, code;
  };
  const Row table[] = {
      {"{", "", ""},
      {R"(["part_1"])", "", ""},
      {"{}", "part_ids", "missing_required_parameter"},
      {R"({"part_ids":null})", "part_ids", "missing_required_parameter"},
      {R"({"part_ids":[]})", "part_ids", "invalid_value"},
      {R"({"part_ids":"part_1"})", "part_ids", "invalid_type"},
      {R"({"part_ids":["part_1",null]})", "part_ids", "invalid_type"},
      {R"({"part_ids":["p"],"md5":7})", "md5", "invalid_type"},
      {R"({"part_ids":["p"],"md5":""})", "md5", "invalid_value"},
      {R"({"part_ids":["p"],"md5":"g41d8cd98f00b204e9800998ecf8427e"})", "md5", "invalid_value"},
      {R"({"part_ids":["p"],"md5":"d41d8cd98f00b204e9800998ecf8427e0"})", "md5", "invalid_value"},
  };
  for (const Row& row : table) {
    const auto completion = parse_upload_completion(row.body);
    ASSERT_FALSE(completion) << row.body;
    EXPECT_EQ(completion.error().param, row.param) << row.body;
    EXPECT_EQ(completion.error().code, row.code) << row.body;
  }
}

TEST(UploadJsonTest, HasEveryKey) {
  Upload upload{.id = {"upload_1"},
                .file = {"a\"b.jsonl", "batch", 12, 3600},
                .status = UploadStatus::pending,
                .created_at = kNow,
                .expires_at = kNow + std::chrono::hours(1),
                .file_id = std::nullopt};
  EXPECT_EQ(json::parse(to_json(upload)), json::parse(R"({
    "id": "upload_1", "object": "upload", "bytes": 12, "created_at": 1764000000, "expires_at": 1764003600,
    "filename": "a\"b.jsonl", "purpose": "batch", "status": "pending", "file": null})"));
  upload.status = UploadStatus::completed;
  const File file{
      .id = {"file-1"}, .filename = "a", .purpose = "batch", .bytes = 12, .created_at = kNow, .expires_at = {}};
  const json::value completed = json::parse(to_json(upload, file));
  EXPECT_EQ(completed.at("status"), "completed");
  EXPECT_EQ(completed.at("file"), json::parse(to_json(file)));
}

TEST(UploadJsonTest, TheStatusIsTheWordOnTheWire) {
  for (const std::string word : {"pending", "completed", "cancelled", "expired"}) {
    Upload upload;
    upload.status = parse_upload_status(word);
    EXPECT_EQ(json::parse(to_json(upload)).at("status").as_string(), word);
  }
  EXPECT_THROW(parse_upload_status("done"), std::invalid_argument);
}

TEST(UploadJsonTest, APartNamesItsUpload) {
  EXPECT_EQ(json::parse(to_json(UploadPart{{"part_1"}, {"upload_1"}, 12, kNow})), json::parse(R"({
    "id": "part_1", "object": "upload.part", "created_at": 1764000000, "upload_id": "upload_1"})"));
}

TEST(ErrorJsonTest, HasAllFourKeysAndNullForNothing) {
  using Kind = Error::Kind;
  const std::pair<Kind, std::string> table[] = {
      {Kind::invalid_request, "invalid_request_error"},
      {Kind::not_found, "invalid_request_error"},
      {Kind::conflict, "invalid_request_error"},
      {Kind::too_large, "invalid_request_error"},
      {Kind::queue_full, "rate_limit_error"},
      {Kind::no_space, "server_error"},
      {Kind::unavailable, "server_error"},
  };
  for (const auto& [kind, type] : table) {
    EXPECT_EQ(json::parse(to_json(Error{kind, "words"})),
              (json::value{{"error", {{"message", "words"}, {"type", type}, {"param", nullptr}, {"code", nullptr}}}}));
  }
  EXPECT_EQ(to_json(Error{Kind::invalid_request, "w", "c", "p"}),
            R"({"error":{"message":"w","type":"invalid_request_error","param":"p","code":"c"}})");
}

TEST(ErrorJsonTest, IsUtf8WhateverWordsOfAClientItHolds) {
  using Kind = Error::Kind;
  for (const char* good : {"No such File: a", "No such File: ü😀"}) {
    EXPECT_NE(to_json(Error{Kind::not_found, good}).find(good), std::string::npos);
  }
  const std::string text = to_json(Error{Kind::not_found, "No such File: a\xff\xc3z"});
  EXPECT_NE(text.find("No such File: a??z"), std::string::npos) << text;
}

TEST(ListJsonTest, NamesFirstAndLastOrNull) {
  EXPECT_EQ(list({}, "", "", false), R"({"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false})");
  EXPECT_EQ(list({R"({"id":"a"})", R"({"id":"b"})"}, "a", "b", true),
            R"({"object":"list","data":[{"id":"a"},{"id":"b"}],"first_id":"a","last_id":"b","has_more":true})");
}

TEST(QueueJsonTest, IsAListThatSaysItsDepthAndWhoRunsIt) {
  EXPECT_EQ(json::parse(queue({}, "", "", 0, {false, std::nullopt})), json::parse(R"({
    "object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false,
    "depth": 0, "max_depth": null, "worker": {"status": "offline", "last_seen_at": null}})"));
  EXPECT_EQ(json::parse(queue({R"({"id":"a"})", R"({"id":"b"})"}, "a", "b", 20, {true, kNow})), json::parse(R"({
    "object": "list", "data": [{"id": "a"}, {"id": "b"}], "first_id": "a", "last_id": "b", "has_more": false,
    "depth": 2, "max_depth": 20, "worker": {"status": "online", "last_seen_at": 1764000000}})"));
}

TEST(SmallJsonTest, IsAsTheContractSays) {
  EXPECT_EQ(json::parse(deleted_file({"file-1"})), json::parse(R"({"id":"file-1","object":"file","deleted":true})"));
  EXPECT_EQ(json::parse(model("m", kNow)),
            json::parse(R"({"id":"m","object":"model","created":1764000000,"owned_by":"penstock"})"));
  EXPECT_EQ(quoted("a\"\\\n\x01"), R"("a\"\\\n\u0001")");
}

TEST(StoredJsonTest, MetadataComesBackAsItWas) {
  for (const Metadata& metadata :
       {Metadata{},
        Metadata{{"z", "1"}, {"a", ""}, {"", "\"\\\n\xC3\xA9\xF0\x9F\x98\x80"}, {"nul", std::string("\0x", 2)}}}) {
    EXPECT_EQ(parse_metadata(metadata_json(metadata)), metadata);
  }
}

TEST(StoredJsonTest, ErrorsComeBackAsTheyWere) {
  const std::vector<LineError> errors = {{.code = "c", .message = "m \"x\"", .param = "p", .line = 50'001},
                                         {.code = "d", .message = "", .param = std::nullopt, .line = std::nullopt}};
  const auto back = parse_errors(errors_json(errors));
  ASSERT_EQ(back.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(back[i].code, errors[i].code);
    EXPECT_EQ(back[i].message, errors[i].message);
    EXPECT_EQ(back[i].param, errors[i].param);
    EXPECT_EQ(back[i].line, errors[i].line);
  }
  EXPECT_TRUE(parse_errors(errors_json({})).empty());
}

}  // namespace
}  // namespace penstock::wire
