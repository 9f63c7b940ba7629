#include "client/transfer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "base/exit_codes.h"
#include "base/random.h"
#include "base/sync.h"
#include "client/table.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kReadSize = 256 << 10;
constexpr Millis kSilenceMax{60'000};
constexpr Millis kDrawPeriod{200};

// How far bytes are, on a terminal.
class ByteProgress {
 public:
  ByteProgress(Clock& clock, std::string words, std::uint64_t total)
      : clock_(clock), words_(std::move(words)), total_(total), terminal_(::isatty(STDERR_FILENO)) {}
  ~ByteProgress() {
    if (drawn_) fmt::print(stderr, "\r\x1b[K");
  }

  void show(std::uint64_t done) {
    const Moment now = clock_.monotonic();
    if (!terminal_ || now < next_) return;
    next_ = now + kDrawPeriod;
    drawn_ = true;
    fmt::print(stderr, "\r{}: {:.1f} of {:.1f} MB\x1b[K", words_, megabytes(done), megabytes(total_));
    std::fflush(stderr);
  }

 private:
  static double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

  Clock& clock_;
  const std::string words_;
  const std::uint64_t total_;
  const bool terminal_;
  bool drawn_ = false;
  Moment next_{};
};

// A form with the purpose and the file (RFC 7578), read from the disk as it is sent.
class FormSource : public ByteSource {
 public:
  FormSource(Clock& clock, const std::string& path)
      : in_(path, std::ios::binary),
        size_(fs::file_size(path)),
        progress_(clock, fmt::format("uploading {}", path), size_) {
    if (!in_) throw UsageError(fmt::format("cannot read {}: {}", path, std::generic_category().message(errno)));
    std::string name = fs::path(path).filename();
    for (const auto& [character, escaped] : {std::pair('"', "%22"), std::pair('\r', "%0D"), std::pair('\n', "%0A")}) {
      for (std::size_t at; (at = name.find(character)) != std::string::npos;) name.replace(at, 1, escaped);
    }
    head_ = fmt::format(
        "--{0}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
        "--{0}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{1}\"\r\n"
        "Content-Type: application/octet-stream\r\n\r\n",
        boundary_, name);
    end_ = fmt::format("\r\n--{}--\r\n", boundary_);
  }

  std::string headers() const { return fmt::format("Content-Type: multipart/form-data; boundary={}\r\n", boundary_); }
  std::uint64_t size() const { return head_.size() + size_ + end_.size(); }

  Task<std::string_view> next() override {
    if (!begun_) {
      begun_ = true;
      co_return head_;
    }
    buffer_.resize(kReadSize);
    in_.read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    buffer_.resize(static_cast<std::size_t>(in_.gcount()));
    sent_ += buffer_.size();
    progress_.show(sent_);
    if (!buffer_.empty()) co_return buffer_;
    co_return std::exchange(ended_, true) ? std::string_view() : std::string_view(end_);
  }

 private:
  const std::string boundary_ = random_id("penstock-");
  std::ifstream in_;
  const std::uint64_t size_;
  ByteProgress progress_;
  std::string head_, end_, buffer_;
  std::uint64_t sent_ = 0;
  bool begun_ = false, ended_ = false;
};

[[noreturn]] void fail(const fs::path& path) {
  throw std::system_error(errno, std::generic_category(), "cannot write " + path.string());
}

// What there is of a file that is being brought. Files of the server do not change under their ids, so what an earlier
// download has left can be gone on with.
class PartFile {
 public:
  PartFile(fs::path target, const std::string& file_id)
      : target_(std::move(target)),
        path_(fs::absolute(target_).parent_path() / fmt::format(".{}.{}.part", target_.filename().string(), file_id)),
        fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail(path_);
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw UsageError(fmt::format("{} is being brought by another command", target_.string()));
    }
    size_ = fs::file_size(path_);
  }
  ~PartFile() { ::close(fd_); }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  std::uint64_t size() const { return size_; }

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0) fail(path_);
      size_ += static_cast<std::uint64_t>(written);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  void remove() { fs::remove(path_); }
  void commit() {
    sync_file(fd_);
    fs::rename(path_, target_);
    sync_directory(path_.parent_path().string());
  }

 private:
  const fs::path target_, path_;
  const int fd_;
  std::uint64_t size_ = 0;
};

}  // namespace

Task<std::string> upload(Server& server, std::string path) {
  const std::function<Server::Upload()> begin = [&] {
    auto source = std::make_unique<FormSource>(server.clock(), path);
    return Server::Upload{.headers = source->headers(), .size = source->size(), .source = std::move(source)};
  };
  const json::object file = co_await server.upload(begin);
  co_return text(file, "id");
}

Task<> download(Server& server, std::string file_id, fs::path path) {
  const json::object file = co_await server.get("/v1/files/" + file_id);
  const auto size = static_cast<std::uint64_t>(whole(file, "bytes"));
  PartFile part(path, file_id);
  ByteProgress progress(server.clock(), fmt::format("bringing {}", path.string()), size);
  if (part.size() < size) {
    const std::function<Server::Asked()> ask = [&] {
      std::string range = part.size() > 0 ? fmt::format("Range: bytes={}-\r\n", part.size()) : "";
      return Server::Asked{.path = fmt::format("/v1/files/{}/content", file_id), .headers = std::move(range)};
    };
    const std::function<void(std::string_view)> take = [&](std::string_view piece) {
      part.write(piece);
      progress.show(part.size());
    };
    co_await server.follow(ask, take, kSilenceMax);
  }
  if (part.size() != size) {
    part.remove();
    throw CommandFailure(kExitUnreachable,
                         fmt::format("{} came with {} bytes instead of {}; try again", file_id, part.size(), size));
  }
  part.commit();
}

}  // namespace penstock
