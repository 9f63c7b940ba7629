#include "blob/s3.h"

#include <fmt/chrono.h>
#include <gtest/gtest.h>

#include <future>
#include <random>

#include "base/error.h"
#include "testing/blob_places.h"
#include "testing/fake_s3.h"

namespace penstock {
namespace {

constexpr std::size_t kBlock = 1 << 20, kPart = 8 << 20;

// Bytes that differ from place to place.
std::string bytes_of(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  return bytes;
}

// Half of a body, and then the connection ends.
class CutSource : public ByteSource {
 public:
  explicit CutSource(std::string bytes) : bytes_(std::move(bytes)) {}
  Task<std::string_view> next() override {
    if (done_) throw std::runtime_error("said the test");
    done_ = true;
    co_return bytes_;
  }

 private:
  const std::string bytes_;
  bool done_ = false;
};

class S3Test : public testing::Test {
 protected:
  std::unique_ptr<BlobStore> open() { return open_s3_blobs(s3.options(), folder.path()); }
  void put(BlobStore& blobs, const std::string& key, std::string_view bytes) {
    const auto writer = blobs.create(key);
    writer->write(bytes);
    writer->commit();
  }
  std::string read(const BlobReader& reader, std::uint64_t offset, std::size_t length) {
    std::string out;
    reader.read_at(offset, length, out);
    return out;
  }
  std::string get(BlobStore& blobs, const std::string& key) {
    const auto reader = blobs.open(key);
    return reader ? read(*reader, 0, reader->size()) : "(none)";
  }
  // What the function throws, in words.
  template <class Failure>
  std::string failure_of(const std::function<void()>& function) {
    try {
      function();
    } catch (const Failure& e) {
      return e.what();
    }
    return "no failure";
  }

  TempDir folder;
  FakeS3 s3;
};

TEST_F(S3Test, AFailureThatMayPassIsTriedAgain) {
  const auto blobs = open();
  for (const int status : {429, 500, 502, 503, 504}) {
    s3.fail(1, "PUT p/file-1", status, "SlowDown");
    put(*blobs, "file-1", std::to_string(status));
    EXPECT_EQ(s3.objects()["p/file-1"], std::to_string(status));
    s3.fail(1, "HEAD p/file-1", status);
    EXPECT_EQ(get(*blobs, "file-1"), std::to_string(status));
  }
  s3.fail(1, "PUT p/file-1", 400, "RequestTimeout");
  put(*blobs, "file-1", "timeout");
  EXPECT_EQ(s3.objects()["p/file-1"], "timeout");
}

TEST_F(S3Test, AConnectionThatEndsIsTriedAgain) {
  const auto blobs = open();
  int ends = 2;  // of a kept connection and of a new one
  s3.set_spoil([&](const FakeS3::Asked& asked) -> std::optional<Response> {
    if (asked.what == "PUT p/file-1" && ends-- > 0) throw std::runtime_error("said the test");
    return std::nullopt;
  });
  put(*blobs, "file-1", "bytes");
  EXPECT_LT(ends, 0);
  EXPECT_EQ(s3.objects()["p/file-1"], "bytes");
}

TEST_F(S3Test, ABodyThatIsCutIsReadAgain) {
  const auto blobs = open();
  const std::string bytes = bytes_of(2 * kBlock);
  s3.put("p/file-1", bytes);
  int cuts = 2;
  s3.set_spoil([&](const FakeS3::Asked& asked) -> std::optional<Response> {
    if (!asked.what.starts_with("GET p/file-1") || cuts-- <= 0) return std::nullopt;
    Response response;
    response.status = 206;
    response.stream = std::make_unique<CutSource>(bytes.substr(0, 1000));
    response.stream_size = kBlock;
    return response;
  });
  EXPECT_TRUE(get(*blobs, "file-1") == bytes);
  EXPECT_LE(cuts, 0);
}

TEST_F(S3Test, WhatDoesNotPassIsAwayAndIsNotWaitedForAgain) {
  const auto blobs = open();
  s3.fail(1'000'000, "", 503, "SlowDown");
  const auto failure = failure_of<StorageAway>([&] { blobs->remove("file-1"); });
  EXPECT_NE(failure.find("503 SlowDown: in words"), std::string::npos) << failure;
  EXPECT_GE(s3.count("DELETE p/file-1"), 2u);
  s3.forget_asked();
  EXPECT_THROW(blobs->open("file-1"), StorageAway);
  EXPECT_EQ(s3.asked(), std::vector<std::string>{"HEAD p/file-1"});

  s3.set_spoil(nullptr);
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  s3.fail(1, "HEAD p/file-1", 503);
  EXPECT_EQ(blobs->open("file-1"), nullptr) << "it is back, so it has patience again";
}

TEST_F(S3Test, ARefusalSaysWhoMayNotDoWhatWhere) {
  const auto blobs = open();
  s3.fail(1'000'000, "", 403, "AccessDenied");
  s3.forget_asked();
  const auto failure = failure_of<StorageAway>([&] { put(*blobs, "file-1", "bytes"); });
  for (const char* words : {"bucket", "the-key-id", "us-east-1", "write", "AccessDenied", "AWS_ACCESS_KEY_ID"}) {
    EXPECT_NE(failure.find(words), std::string::npos) << words << " is not in: " << failure;
  }
  EXPECT_EQ(failure.find("the-secret"), std::string::npos) << failure;
  EXPECT_EQ(s3.asked().size(), 1u) << "it does not pass by itself";
}

TEST_F(S3Test, TheStartSaysWhatToDo) {
  const auto refused = [&] { return failure_of<UsageError>([&] { open(); }); };
  s3.fail(1'000'000, "", 404, "NoSuchBucket");
  EXPECT_NE(refused().find("make the bucket"), std::string::npos) << refused();
  s3.fail(1'000'000, "PUT", 403, "AccessDenied");
  EXPECT_NE(refused().find("refused to write"), std::string::npos) << refused();
  s3.fail(1'000'000, "DELETE", 403, "AccessDenied");
  EXPECT_NE(refused().find("refused to delete"), std::string::npos) << refused();
  s3.set_spoil([](const FakeS3::Asked&) {
    Response response = FakeS3::error(301, "PermanentRedirect");
    response.headers.add("x-amz-bucket-region", "eu-west-1");
    return response;
  });
  EXPECT_NE(refused().find("set AWS_REGION=eu-west-1"), std::string::npos) << refused();
  s3.set_spoil([](const FakeS3::Asked&) {
    Response response;
    response.body = "<html>hello</html>";
    return response;
  });
  EXPECT_NE(refused().find("is this the address of S3?"), std::string::npos) << refused();

  S3Options nowhere = s3.options();
  nowhere.endpoint = "http://127.0.0.1:1";
  const auto failure = failure_of<UsageError>([&] { open_s3_blobs(nowhere, folder.path()); });
  EXPECT_NE(failure.find("127.0.0.1:1"), std::string::npos) << failure;
}

TEST_F(S3Test, ABucketThatIsPartOfTheHostIsNotPartOfThePath) {
  S3Options options = s3.options();
  options.path_style = false;
  std::vector<std::string> paths;
  s3.set_spoil([&](const FakeS3::Asked& asked) {
    paths.push_back(asked.path.substr(0, asked.path.find('_')));
    Response response;
    response.status = asked.method == "DELETE" ? 204 : 200;
    if (asked.method == "GET") response.body = "<ListBucketResult/>";
    return response;
  });
  open_s3_blobs(options, folder.path());
  EXPECT_EQ(paths, (std::vector<std::string>{"/", "/p/part", "/p/part"}));
}

TEST_F(S3Test, NothingIsLeftOfTheLookAtTheStart) {
  open();
  EXPECT_TRUE(s3.objects().empty());
}

TEST(S3ClockTest, AWrongClockIsPutRight) {
  const TempDir folder;
  FakeS3 s3(std::chrono::hours(25));
  s3.set_spoil([](const FakeS3::Asked& asked) -> std::optional<Response> {
    const auto tomorrow =
        std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now() + std::chrono::hours(25));
    const auto day = fmt::format("{:%Y%m%d}", fmt::gmtime(std::chrono::system_clock::to_time_t(tomorrow)));
    if (asked.headers.find("x-amz-date").value_or("").starts_with(day)) return std::nullopt;
    return FakeS3::error(403, "RequestTimeTooSkewed");
  });
  const auto blobs = open_s3_blobs(s3.options(), folder.path());
  EXPECT_EQ(s3.count("GET  list-type"), 2u) << "once for nothing, then by its clock";
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_EQ(s3.count("HEAD p/file-1"), 1u);
}

TEST_F(S3Test, TemporaryCredentialsBringTheirToken) {
  S3Options options = s3.options();
  options.credentials.session_token = "the-token";
  s3.set_spoil([](const FakeS3::Asked& asked) -> std::optional<Response> {
    const auto authorization = asked.headers.find("authorization").value_or("");
    const bool signs_it = authorization.find("x-amz-security-token") != std::string_view::npos;
    if (signs_it && asked.headers.find("x-amz-security-token") == "the-token") return std::nullopt;
    return FakeS3::error(403, "InvalidToken");
  });
  EXPECT_NE(open_s3_blobs(options, folder.path()), nullptr);
}

TEST_F(S3Test, ALargeBlobGoesInPartsWhileItIsWritten) {
  const auto blobs = open();
  const std::string bytes = bytes_of(3 * kPart + 5);
  {
    const auto writer = blobs->create("file-1");
    writer->write(std::string_view(bytes).substr(0, kPart + 1));
    ASSERT_TRUE(s3.wait_for("PUT p/file-1 uploadId")) << "the first part waits for no other";
    writer->write(std::string_view(bytes).substr(kPart + 1));
    EXPECT_FALSE(s3.objects().contains("p/file-1"));
    writer->commit();
  }
  EXPECT_TRUE(s3.objects()["p/file-1"] == bytes);
  EXPECT_EQ(s3.count("PUT p/file-1 uploadId"), 4u);
  EXPECT_EQ(s3.uploads(), 0u);
}

TEST_F(S3Test, ABlobOfOnePartIsWrittenWithOneRequest) {
  const auto blobs = open();
  s3.forget_asked();
  put(*blobs, "file-1", bytes_of(kPart));
  EXPECT_EQ(s3.asked(), std::vector<std::string>{"PUT p/file-1"});
}

TEST_F(S3Test, AnUploadThatIsGivenUpIsAborted) {
  auto blobs = open();
  blobs->create("file-1")->write(bytes_of(3 * kPart));
  blobs.reset();
  EXPECT_EQ(s3.uploads(), 0u);
  EXPECT_EQ(s3.count("DELETE p/file-1 uploadId"), 1u);
  EXPECT_TRUE(s3.objects().empty());
}

TEST_F(S3Test, APartThatFailsFailsTheBlob) {
  auto blobs = open();
  s3.fail(1'000'000, "PUT p/file-1 uploadId", 403, "AccessDenied");
  EXPECT_THROW(put(*blobs, "file-1", bytes_of(3 * kPart)), StorageAway);
  blobs.reset();
  EXPECT_EQ(s3.uploads(), 0u);
  EXPECT_TRUE(s3.objects().empty());
}

TEST_F(S3Test, ACompletionThatSaysNoAfterAllIsTriedAgain) {
  const auto blobs = open();
  const std::string bytes = bytes_of(kPart + 1);
  s3.fail(1, "POST p/file-1 uploadId", 200, "InternalError");
  put(*blobs, "file-1", bytes);
  EXPECT_EQ(s3.count("POST p/file-1 uploadId"), 2u);
  EXPECT_TRUE(s3.objects()["p/file-1"] == bytes);
}

TEST_F(S3Test, ACompletionWhoseAnswerIsLostIsOne) {
  const auto blobs = open();
  const std::string bytes = bytes_of(kPart + 1);
  int completions = 0;
  s3.set_spoil([&](const FakeS3::Asked& asked) -> std::optional<Response> {
    if (asked.what != "POST p/file-1 uploadId") return std::nullopt;
    return ++completions == 1 ? FakeS3::error(503, "") : FakeS3::error(404, "NoSuchUpload");
  });
  EXPECT_THROW(put(*blobs, "file-1", bytes), StorageAway) << "there is no such blob";
  s3.put("p/file-1", bytes);
  put(*blobs, "file-1", bytes);
}

TEST_F(S3Test, LinesInAnyOrderCostOneRequestABlock) {
  const auto blobs = open();
  const std::string bytes = bytes_of(5 * kBlock + 7);
  s3.put("p/file-1", bytes);
  const auto first = blobs->open("file-1"), second = blobs->open("file-1");
  std::minstd_rand random(2);
  for (int i = 0; i < 500; ++i) {
    const std::size_t at = random() % bytes.size(), length = random() % 3000;
    const auto& reader = i % 2 == 0 ? *first : *second;
    ASSERT_TRUE(read(reader, at, length) == bytes.substr(at, length)) << at;
  }
  EXPECT_EQ(s3.count("GET p/file-1"), 6u);
  EXPECT_TRUE(get(*blobs, "file-1") == bytes);
  EXPECT_EQ(s3.count("GET p/file-1"), 6u) << "what was read is kept for the next reader";
}

TEST_F(S3Test, WhoReadsOnFindsTheNextBlocksUnderWay) {
  const auto blobs = open();
  s3.put("p/file-1", bytes_of(20 * kBlock));
  const auto reader = blobs->open("file-1");
  read(*reader, 0, 10);
  EXPECT_TRUE(s3.wait_for("GET p/file-1", 5)) << "the one that was read, and four more";
  read(*reader, kBlock, 10);
  EXPECT_TRUE(s3.wait_for(fmt::format("GET p/file-1 {}-", 5 * kBlock)));
  read(*reader, 12 * kBlock, 10);
  read(*reader, 16 * kBlock, 10);
  EXPECT_EQ(s3.count("GET p/file-1"), 8u) << "of who reads here and there nothing is guessed";
}

TEST_F(S3Test, ABlobThatWasReplacedIsNotMixedWithItsOldSelf) {
  const auto blobs = open();
  s3.put("p/file-1", std::string(6 * kBlock, 'a'));
  const auto old = blobs->open("file-1");
  read(*old, 0, 1);
  ASSERT_TRUE(s3.wait_for("GET p/file-1", 5));
  s3.put("p/file-1", std::string(6 * kBlock, 'b'));
  EXPECT_EQ(failure_of<std::runtime_error>([&] { read(*old, 5 * kBlock, 1); }),
            "a blob in S3 was removed or replaced by another process while it was read");
  EXPECT_EQ(read(*blobs->open("file-1"), 0, 1), "b");
}

TEST_F(S3Test, ABlobIsRemovedWhenItsReadersHaveGone) {
  const auto blobs = open();
  s3.put("p/file-1", bytes_of(2 * kBlock));
  auto first = blobs->open("file-1"), second = blobs->open("file-1");
  s3.forget_asked();
  blobs->remove("file-1");
  first.reset();
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_EQ(s3.asked().size(), 0u);
  second.reset();
  EXPECT_TRUE(s3.wait_for("DELETE p/file-1"));
}

TEST_F(S3Test, ListsGoOnOverPagesAndHoldOnlyWhatIsOurs) {
  const auto blobs = open();
  s3.page_size = 2;
  for (const char* key : {"p/file-a", "p/file-d-1_2", "p/part_b", "p/plan-c", "p/below/file-e", "p/file-f.g",
                          "other/file-h", "p/README", "p/penstock-store"}) {
    s3.put(key, "x");
  }
  EXPECT_EQ(blobs->keys(), (std::vector<std::string>{"file-a", "file-d-1_2", "part_b", "plan-c"}));
  EXPECT_EQ(blobs->keys(std::chrono::hours(24)).size(), 4u) << "they are of 2020";
  s3.listed_date = "2999-01-01T00:00:00.000Z";
  EXPECT_TRUE(blobs->keys(std::chrono::hours(24)).empty());
}

TEST_F(S3Test, UploadsThatNobodyEndedAreAborted) {
  const auto blobs = open();
  s3.page_size = 2;
  auto crashed = open();
  std::vector<std::unique_ptr<BlobWriter>> writers;
  for (const char* key : {"file-1", "file-2", "file-3"}) {
    writers.push_back(crashed->create(key));
    writers.back()->write(bytes_of(kPart + 1));
  }
  EXPECT_EQ(s3.uploads(), 3u);
  s3.listed_date = "2999-01-01T00:00:00.000Z";
  blobs->abort_unfinished(std::chrono::hours(24));
  EXPECT_EQ(s3.uploads(), 3u);
  s3.listed_date = "2020-01-01T00:00:00.000Z";
  blobs->abort_unfinished(std::chrono::hours(24));
  EXPECT_EQ(s3.uploads(), 0u);
  EXPECT_THROW(writers[0]->commit(), StorageAway);
}

TEST_F(S3Test, AClosedStoreLeavesItsReadersAndWritersAlone) {
  auto blobs = open();
  s3.put("p/file-1", "bytes");
  const auto reader = blobs->open("file-1");
  auto writer = blobs->create("file-2");
  writer->write(bytes_of(kPart + 1));
  blobs.reset();
  EXPECT_THROW(read(*reader, 0, 5), StorageAway);
  EXPECT_THROW(writer->commit(), StorageAway);
}

// S3Options::from_environment() with these variables and files.
class S3OptionsTest : public testing::Test {
 protected:
  S3Options options(const std::string& address = "s3://my-bucket") {
    return S3Options::from_environment(address, [&](const char* name) -> std::optional<std::string> {
      const auto found = environment.find(name);
      return found == environment.end() ? std::nullopt : std::optional(found->second);
    });
  }
  bool is_refused(const std::string& address) {
    try {
      options(address);
    } catch (const UsageError&) {
      return true;
    }
    return false;
  }

  std::map<std::string, std::string> environment{{"AWS_ACCESS_KEY_ID", "id"}, {"AWS_SECRET_ACCESS_KEY", "secret"}};
  TempDir home;
};

TEST_F(S3OptionsTest, AnAddressHasABucketAndPerhapsAPrefix) {
  EXPECT_EQ(options().bucket, "my-bucket");
  EXPECT_EQ(options().prefix, "");
  EXPECT_EQ(options("s3://my-bucket/").prefix, "");
  EXPECT_EQ(options("s3://my-bucket/a/b_c").prefix, "a/b_c/");
  EXPECT_EQ(options("s3://my-bucket//a/").prefix, "a/");
  for (const char* address : {"s3://", "s3:///a", "s3://b c", "s3://b/a b", "s3://b/a//b", "s3://b/../a", "s3://b/a/.",
                              "s3://b?x", "s3://b/a?x", "s3://.", "http://b"}) {
    EXPECT_TRUE(is_refused(address)) << address;
  }
}

TEST_F(S3OptionsTest, AmazonIsAskedByHostAndAnyOtherEndpointByPath) {
  EXPECT_EQ(options().endpoint, "https://my-bucket.s3.us-east-1.amazonaws.com");
  EXPECT_FALSE(options().path_style);
  environment["AWS_DEFAULT_REGION"] = "cn-north-1";
  EXPECT_EQ(options().endpoint, "https://my-bucket.s3.cn-north-1.amazonaws.com.cn");
  environment["AWS_REGION"] = "eu-west-1";
  EXPECT_EQ(options("s3://my.bucket").endpoint, "https://s3.eu-west-1.amazonaws.com");
  EXPECT_TRUE(options("s3://my.bucket").path_style);
  environment["AWS_ENDPOINT_URL"] = "http://minio:9000";
  EXPECT_EQ(options().endpoint, "http://minio:9000");
  EXPECT_TRUE(options().path_style);
  environment["AWS_ENDPOINT_URL_S3"] = "https://other";
  EXPECT_EQ(options().endpoint, "https://other");
  environment["AWS_ENDPOINT_URL_S3"] = "other";
  EXPECT_TRUE(is_refused("s3://my-bucket"));
}

TEST_F(S3OptionsTest, KeysComeFromTheEnvironmentOrAProfile) {
  EXPECT_EQ(options().credentials.secret, "secret");
  environment = {{"HOME", home.path()}};
  EXPECT_TRUE(is_refused("s3://my-bucket")) << "there are none";
  std::filesystem::create_directory(home / ".aws");
  home.write(".aws/credentials",
             "# mine\n[default]\naws_access_key_id = id1\naws_secret_access_key=secret1=\n\n"
             "[ other ]\naws_access_key_id=id2\naws_secret_access_key=secret2\naws_session_token = token2\n");
  home.write(".aws/config", "[default]\nregion = r-1\n[profile other]\nregion=r-2\nendpoint_url = http://other:1\n");
  EXPECT_EQ(options().credentials.key_id, "id1");
  EXPECT_EQ(options().credentials.secret, "secret1=");
  EXPECT_EQ(options().credentials.session_token, "");
  EXPECT_EQ(options().region, "r-1");
  environment["AWS_PROFILE"] = "other";
  EXPECT_EQ(options().credentials.key_id, "id2");
  EXPECT_EQ(options().credentials.session_token, "token2");
  EXPECT_EQ(options().region, "r-2");
  EXPECT_EQ(options().endpoint, "http://other:1");
  environment["AWS_REGION"] = "r-3";
  EXPECT_EQ(options().region, "r-3");
  environment["AWS_ACCESS_KEY_ID"] = "id3";
  EXPECT_TRUE(is_refused("s3://my-bucket")) << "an id and a secret of two places are no pair";
}

TEST(S3SignatureTest, AWrongSecretIsRefused) {
  auto place = s3_place("S3");
  if (!place) GTEST_SKIP() << "PENSTOCK_TEST_S3_ENDPOINT is not set: tests/services.py sets it";
  const TempDir folder;
  EXPECT_NE(open_s3_blobs(*place, folder.path()), nullptr);
  place->credentials.secret += "x";
  EXPECT_THROW(open_s3_blobs(*place, folder.path()), UsageError);
}

}  // namespace
}  // namespace penstock
