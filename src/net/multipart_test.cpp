#include "net/multipart.h"

#include <gtest/gtest.h>

#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr const char* kType = "multipart/form-data; boundary=xyz";

// `bytes`, `step` at a time.
class Cut : public ByteSource {
 public:
  Cut(std::string bytes, std::size_t step) : bytes_(std::move(bytes)), step_(step) {}
  Task<std::string_view> next() override {
    const std::size_t begin = at_;
    at_ = std::min(at_ + step_, bytes_.size());
    co_return std::string_view(bytes_).substr(begin, at_ - begin);
  }

 private:
  std::string bytes_;
  std::size_t step_;
  std::size_t at_ = 0;
};

// Every part as "name(filename)=content;".
Task<std::string> parts_of(const char* content_type, ByteSource& body) {
  MultipartReader reader(content_type, body);
  std::string all;
  while (true) {
    const auto part = co_await reader.next_part();
    if (!part) break;
    all += part->name;
    if (part->filename) all += "(" + *part->filename + ")";
    all += "=";
    while (true) {
      const std::string_view bytes = co_await reader.read();
      if (bytes.empty()) break;
      all += bytes;
    }
    all += ";";
  }
  co_return all;
}

Task<std::string> names_of(ByteSource& body) {
  MultipartReader reader(kType, body);
  std::string all;
  while (true) {
    const auto part = co_await reader.next_part();
    if (!part) break;
    all += part->name + ";";
  }
  co_return all;
}

std::string parse(const std::string& bytes, std::size_t step, const char* content_type = kType) {
  asio::io_context loop;
  Cut body(bytes, step);
  return run_task(loop, parts_of(content_type, body));
}

const std::string kForm =
    "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
    "--xyz\r\nContent-Type: application/jsonl\r\ncontent-disposition: form-data; name=\"file\"; "
    "filename=\"a;b.jsonl\"\r\n\r\n"
    "line 1\r\n--xy\r\n--xz line\r\r\n\r\n--xyz \r\n"
    "Content-Disposition:form-data;name=empty\r\n\r\n\r\n--xyz--\r\nepilogue";

TEST(MultipartReader, GivesTheSamePartsHoweverTheBodyIsCut) {
  for (std::size_t step = 1; step <= kForm.size(); ++step) {
    ASSERT_EQ(parse(kForm, step), "purpose=batch;file(a;b.jsonl)=line 1\r\n--xy\r\n--xz line\r\r\n;empty=;") << step;
  }
}

TEST(MultipartReader, SkipsPartsThatNobodyReads) {
  asio::io_context loop;
  Cut body(kForm, 7);
  EXPECT_EQ(run_task(loop, names_of(body)), "purpose;file;empty;");
}

TEST(MultipartReader, SkipsAPreamble) {
  EXPECT_EQ(parse("hello\r\n--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--xyz--", 3), "a=1;");
}

TEST(MultipartReader, TakesAFormWithoutParts) {
  EXPECT_EQ(parse("--xyz--\r\n", 3), "");
}

TEST(MultipartReader, UndoesOnlyTheThreeEscapesOfBrowsers) {
  EXPECT_EQ(parse("--xyz\r\nContent-Disposition: form-data; name=\"f\"; "
                  "filename=\"a%22b%0d%0A%41\\c.jsonl\"\r\n\r\n\r\n--xyz--",
                  99),
            "f(a\"b\r\n%41\\c.jsonl)=;");
}

TEST(MultipartReader, FindsTheBoundaryInTheContentType) {
  const std::string form = "--a b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--a b--";
  EXPECT_EQ(parse(form, 99, "Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a b\""), "a=1;");
  for (const char* type :
       {"multipart/form-data", "multipart/form-data; boundary=", "application/json; boundary=a b",
        "multipart/mixed; boundary=a b", "", "multipart/form-data; boundary=\"a b",
        "multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789x"}) {
    EXPECT_THROW(parse(form, 99, type), HttpError) << type;
  }
}

TEST(MultipartReader, RefusesWhatIsMalformed) {
  const std::string disposition = "Content-Disposition: form-data; name=a\r\n";
  for (const std::string& body : std::initializer_list<std::string>{
           "",
           "--xyz",
           "--xyz\r\n",
           "no boundary",
           "--xyz\r\n" + disposition,
           "--xyz\r\n" + disposition + "\r\n",
           "--xyz\r\n" + disposition + "\r\ncut",
           "--xyz\r\n" + disposition + "\r\ncut\r\n--xyz",
           "--xyz\r\n\r\nno head\r\n--xyz--",
           std::string("--xyz\r\nContent-Type: text/plain\r\n\r\n1\r\n--xyz--"),
           std::string("--xyz\r\nContent-Disposition: form-data\r\n\r\n1\r\n--xyz--"),
           std::string("--xyz\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--xyz--"),
           std::string("--xyz\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--xyz--"),
           std::string("--xyz\r\nno colon\r\n\r\n1\r\n--xyz--"),
           "--xyz text\r\n" + disposition + "\r\n1\r\n--xyz--",
           "--xyz\r\nX: " + std::string(40'000, 'x') + "\r\n" + disposition + "\r\n1\r\n--xyz--",
           std::string(200'000, 'x') + "\r\n--xyz--",
       }) {
    for (const std::size_t step : {std::size_t{1'000'000}, std::size_t{1'000}, std::size_t{1}}) {
      try {
        parse(body, step);
        ADD_FAILURE() << "accepted: " << body.substr(0, 100);
      } catch (const HttpError& e) {
        EXPECT_EQ(e.status(), 400) << body.substr(0, 100);
      }
    }
  }
}

}  // namespace
}  // namespace penstock
