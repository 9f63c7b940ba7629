// A multipart form. Input: the Content-Type in the first line; then the sizes of the pieces; then the body.
#include "fuzz.h"
#include "net/multipart.h"

namespace penstock {
namespace {

class Pieces : public ByteSource {
 public:
  Pieces(std::string_view bytes, std::string_view sizes) : cutter_(bytes, sizes) {}
  Task<std::string_view> next() override { co_return cutter_.next(); }

 private:
  Cutter cutter_;
};

struct Form {
  std::vector<MultipartReader::Part> parts;
  std::vector<std::string> contents;  // one a part, the last one perhaps cut short by the error
  std::string error;
};

Task<> read_parts(MultipartReader& reader, bool skip, Form& form) {
  while (auto part = co_await reader.next_part()) {
    form.parts.push_back(std::move(*part));
    form.contents.emplace_back();
    if (skip) continue;
    while (true) {
      const std::string_view bytes = co_await reader.read();
      if (bytes.empty()) break;
      form.contents.back() += bytes;
    }
  }
}

Form read_form(std::string_view content_type, std::string_view body, std::string_view sizes, bool skip = false) {
  Form form;
  asio::io_context loop;
  Pieces pieces(body, sizes);
  try {
    MultipartReader reader(content_type, pieces);
    run_until_done(loop, read_parts(reader, skip, form));
  } catch (const HttpError& e) {
    require(e.status() == 400, "a malformed form is answered with 400");
    form.error = e.what();
  }
  return form;
}

bool same_parts(const Form& a, const Form& b) {
  return a.error == b.error &&
         std::equal(a.parts.begin(), a.parts.end(), b.parts.begin(), b.parts.end(),
                    [](const auto& x, const auto& y) { return x.name == y.name && x.filename == y.filename; });
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace penstock;
  std::string_view body(reinterpret_cast<const char*>(data), size);
  const std::string_view content_type = take_line(body), sizes = take_line(body);
  const Form whole = read_form(content_type, body, "");
  const Form cut = read_form(content_type, body, sizes);
  require(same_parts(whole, cut) && whole.contents == cut.contents, "the pieces do not matter");
  require(same_parts(whole, read_form(content_type, body, sizes, true)), "a part may be skipped");

  // Each content stands in the body between a head's end and a boundary, behind the one before.
  std::size_t at = 0;
  for (std::size_t i = 0; i < whole.contents.size(); ++i) {
    const bool is_whole = whole.error.empty() || i + 1 < whole.contents.size();
    const std::string found = "\r\n\r\n" + whole.contents[i] + (is_whole ? "\r\n--" : "");
    at = body.find(found, at);
    require(at != std::string_view::npos, "the contents are the body's, in its order");
    at += found.size() - (is_whole ? 4 : 0);
  }
  return 0;
}
