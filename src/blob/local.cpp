#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "base/directory.h"
#include "base/random.h"
#include "base/sync.h"
#include "blob/blob_store.h"

// A blob is the file `directory/key`. It is written as `directory/tmp/key.random`, made durable and renamed, so a file
// under a key is always whole.
namespace penstock {
namespace {

constexpr std::size_t kWriteSize = 64 * 1024;  // smaller pieces are gathered up to this

[[noreturn]] void fail(const std::string& doing) {
  throw std::system_error(errno, std::generic_category(), doing);
}

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

Fd open_directory(const std::filesystem::path& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) fail("open " + path.string());
  return fd;
}

Millis changed_at(const struct stat& status) {
  return std::chrono::floor<Millis>(std::chrono::seconds(status.st_mtim.tv_sec) +
                                    std::chrono::nanoseconds(status.st_mtim.tv_nsec));
}

// The names of the plain files in a directory that were last changed at `changed_max` or before.
std::vector<std::string> files_in(int directory, Millis changed_max) {
  const int fd = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // has a reading position of its own
  if (fd < 0) fail("open a directory");
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(fd), ::closedir);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(entries.get())) {
    struct stat status;
    if (::fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode) &&
        changed_at(status) <= changed_max) {
      names.emplace_back(entry->d_name);
    }
    errno = 0;
  }
  if (errno != 0) fail("read a directory");
  return names;
}

class LocalWriter final : public BlobWriter {
 public:
  LocalWriter(int directory, int tmp_directory, std::string key, std::string tmp_name)
      : directory_(directory),
        tmp_directory_(tmp_directory),
        key_(std::move(key)),
        tmp_name_(std::move(tmp_name)),
        fd_(::openat(tmp_directory_, tmp_name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {
    if (fd_.get() < 0) fail("create a file");
  }
  ~LocalWriter() override {
    if (!renamed_) ::unlinkat(tmp_directory_, tmp_name_.c_str(), 0);
  }

  void write(std::string_view bytes) override {
    size_ += bytes.size();
    if (buffer_.size() + bytes.size() < kWriteSize) {
      buffer_.append(bytes);
      return;
    }
    flush();
    put(bytes);
  }

  void commit() override {
    flush();
    sync_file(fd_.get());
    if (::renameat(tmp_directory_, tmp_name_.c_str(), directory_, key_.c_str()) != 0) fail("rename");
    renamed_ = true;
    sync_directory(directory_);
  }

  // Leaves an older blob of that key as it is, and returns false.
  bool commit_once() {
    flush();
    sync_file(fd_.get());
    if (::linkat(tmp_directory_, tmp_name_.c_str(), directory_, key_.c_str(), 0) != 0) {
      if (errno == EEXIST) return false;
      fail("link");
    }
    sync_directory(directory_);
    return true;
  }

  // Of the file that is written.
  Millis changed_at() const {
    struct stat status;
    if (::fstat(fd_.get(), &status) != 0) fail("fstat");
    return penstock::changed_at(status);
  }

  std::uint64_t size() const override { return size_; }

 private:
  void flush() {
    put(buffer_);
    buffer_.clear();
  }

  void put(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
      if (written >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(written));
      } else if (errno != EINTR) {
        fail("write");
      }
    }
  }

  const int directory_, tmp_directory_;
  const std::string key_, tmp_name_;
  const Fd fd_;
  std::string buffer_;
  std::uint64_t size_ = 0;
  bool renamed_ = false;
};

class LocalReader final : public BlobReader {
 public:
  explicit LocalReader(Fd fd) : fd_(std::move(fd)) {
    struct stat status;
    if (::fstat(fd_.get(), &status) != 0) fail("fstat");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  std::uint64_t size() const override { return size_; }

  void read_at(std::uint64_t offset, std::size_t length, std::string& out) const override {
    if (offset >= size_) return;
    length = static_cast<std::size_t>(std::min<std::uint64_t>(length, size_ - offset));
    const std::size_t start = out.size();
    out.resize(start + length);
    std::size_t done = 0;
    while (done < length) {
      const ssize_t got =
          ::pread(fd_.get(), out.data() + start + done, length - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        if (got == 0) errno = EIO;  // a blob never shrinks
        const int reason = errno;
        out.resize(start);
        errno = reason;
        fail("read");
      }
      done += static_cast<std::size_t>(got);
    }
  }

 private:
  const Fd fd_;
  std::uint64_t size_ = 0;
};

class LocalBlobs final : public BlobStore {
 public:
  explicit LocalBlobs(const std::filesystem::path& path) {
    make_directory(path);
    make_directory(path / "tmp");
    directory_ = open_directory(path);
    tmp_directory_ = open_directory(path / "tmp");
    sync_directory(directory_.get());
    sync_directory(tmp_directory_.get());
  }

  std::unique_ptr<BlobWriter> create(const std::string& key) override { return writer(key); }

  std::unique_ptr<BlobReader> open(const std::string& key) const override {
    check_key(key);
    Fd fd(::openat(directory_.get(), key.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (fd.get() >= 0) return std::make_unique<LocalReader>(std::move(fd));
    if (errno == ENOENT) return nullptr;
    fail("open a file");
  }

  void remove(const std::string& key) override {
    check_key(key);
    if (::unlinkat(directory_.get(), key.c_str(), 0) == 0) {
      sync_directory(directory_.get());
    } else if (errno != ENOENT) {
      fail("unlink");
    }
  }

  std::vector<std::string> keys(Millis age_min) const override {
    std::vector<std::string> keys = files_in(directory_.get(), changed_max(age_min));
    std::erase_if(keys, [](const std::string& name) { return !is_own_key(name); });
    return keys;
  }

  void abort_unfinished(Millis age_min) override {
    for (const std::string& name : files_in(tmp_directory_.get(), changed_max(age_min))) {
      const std::string key = name.substr(0, name.find('.'));
      if (!is_own_key(key) && key != kIdentityKey) continue;
      if (::unlinkat(tmp_directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT) fail("unlink");
    }
    sync_directory(tmp_directory_.get());
  }

  bool create_once(const std::string& key, std::string_view bytes) override {
    const auto once = writer(key);
    once->write(bytes);
    return once->commit_once();
  }

 private:
  std::unique_ptr<LocalWriter> writer(const std::string& key) const {
    check_key(key);
    return std::make_unique<LocalWriter>(directory_.get(), tmp_directory_.get(), key, random_id(key + '.'));
  }

  // The clock of the file system is asked, which may be on another machine: ours may be wrong.
  Millis changed_max(Millis age_min) const {
    if (age_min == Millis{0}) return Millis::max();
    return writer("part_clock")->changed_at() - age_min;
  }

  Fd directory_, tmp_directory_;
};

}  // namespace

std::unique_ptr<BlobStore> open_local_blobs(const std::string& directory) {
  return std::make_unique<LocalBlobs>(directory);
}

}  // namespace penstock
