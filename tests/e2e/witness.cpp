// Stands between a program and the C library (LD_PRELOAD) and sees every step by which it changes a folder or sends
// bytes. It writes each step down, or kills the program at one of them. strace could do neither: it counts the calls of
// each thread apart, and the steps of a server are those of all its threads.
//
//   WITNESS_FOLDER  the folder; files that the program has open as its standard streams do not count
//   WITNESS_LOG     where steps are written down: a Header for each, its two names and its bytes
//   WITNESS_KILL    "KIND NUMBER before" or "KIND NUMBER during": which step of that kind, from 1, is the last.
//   "before"
//                   leaves it undone; "during" does half of a write, and the whole of anything else.
//
// A lock makes the steps follow one on the other, in the order in which they are written down.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>

namespace {

constexpr std::size_t kSentMax = 64;  // bytes that are kept of what is sent

struct __attribute__((packed)) Header {
  char kind;                            // see Step
  std::uint64_t inode;                  // of the file or folder that is changed
  std::int64_t offset;                  // of a write; the size after a truncation
  std::uint32_t name, new_name, bytes;  // sizes of what follows
};

struct Step {
  // create, folder, write, truncate, fsync or fdatasync, rename, unlink, answer or anything else that is sent
  enum Kind : char {
    create = 'c',
    folder = 'd',
    write = 'w',
    truncate = 't',
    sync = 's',
    rename = 'r',
    unlink = 'u',
    send = 'a'
  };
  Kind kind;
  std::string name, new_name = {};
  std::uint64_t inode = 0;
  std::int64_t offset = 0;
  std::string_view bytes = {};
};

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

class Witness {
 public:
  static Witness& get() {
    static Witness witness;
    return witness;
  }

  bool watches(const std::string& path) const {
    return !folder_.empty() && path.compare(0, folder_.size(), folder_) == 0 &&
           (path.size() == folder_.size() || path[folder_.size()] == '/');
  }

  // Does the step with `call`, unless it is the one to die at; `half` is what then comes of a step that has halves.
  template <class Call, class Half>
  auto see(Step step, Call call, Half half) {
    const std::lock_guard lock(mutex_);
    if (step.kind == kill_kind_ && --kill_in_ == 0) {
      if (during_) half();
      ::kill(::getpid(), SIGKILL);
    }
    const auto result = call();
    if (result >= 0 && log_ >= 0) {
      const int error = errno;
      finish(step, static_cast<std::int64_t>(result));
      write_down(step);
      errno = error;
    }
    return result;
  }
  template <class Call>
  auto see(Step step, Call call) {
    return see(std::move(step), call, call);
  }

 private:
  Witness() : folder_(setting("WITNESS_FOLDER")) {
    if (const std::string log = setting("WITNESS_LOG"); !log.empty()) {
      log_ = static_cast<int>(
          ::syscall(SYS_openat, AT_FDCWD, log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    }
    char how[7] = "";
    const std::string kill = setting("WITNESS_KILL");
    if (std::sscanf(kill.c_str(), "%c %ld %6s", &kill_kind_, &kill_in_, how) != 3) kill_kind_ = 0;
    during_ = std::string_view(how) == "during";
  }

  // What is known of a step only when it is done.
  static void finish(Step& step, std::int64_t result) {
    struct stat status {};
    if (step.kind == Step::create && ::fstat(static_cast<int>(result), &status) == 0) step.inode = status.st_ino;
    if (step.kind == Step::folder && ::stat(step.name.c_str(), &status) == 0) step.inode = status.st_ino;
    if (step.kind == Step::write) step.bytes = step.bytes.substr(0, static_cast<std::size_t>(result));
  }

  void write_down(const Step& step) {
    const auto size = [](std::string_view text) { return static_cast<std::uint32_t>(text.size()); };
    const Header header{step.kind, step.inode, step.offset, size(step.name), size(step.new_name), size(step.bytes)};
    std::string record(reinterpret_cast<const char*>(&header), sizeof header);
    record.append(step.name).append(step.new_name).append(step.bytes);
    if (::syscall(SYS_write, log_, record.data(), record.size()) != static_cast<long>(record.size())) std::abort();
  }

  std::mutex mutex_;
  const std::string folder_;
  int log_ = -1;
  char kill_kind_ = 0;
  long kill_in_ = 0;
  bool during_ = false;
};

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}
#define NEXT(name) static const auto real = next<decltype(&name)>(#name)

std::string path_of(int fd) {
  if (fd <= STDERR_FILENO) return "";
  char path[PATH_MAX];
  const ssize_t size = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return std::string(path, size > 0 ? static_cast<std::size_t>(size) : 0);
}

std::string path_at(int folder, const char* name) {
  return name[0] == '/' || folder == AT_FDCWD ? name : path_of(folder) + "/" + name;
}

// Where the file stands that a write without an offset goes to, and which one it is.
struct Place {
  explicit Place(int fd) : path(path_of(fd)) {
    struct stat status {};
    if (Witness::get().watches(path) && ::fstat(fd, &status) == 0) {
      inode = status.st_ino;
      offset = ::lseek(fd, 0, SEEK_CUR);
    }
  }
  std::string path;
  std::uint64_t inode = 0;  // 0: not watched
  std::int64_t offset = 0;
};

template <class Real>
int open_at(Real real, int folder, const char* name, int flags, mode_t mode) {
  const std::string path = path_at(folder, name);
  const auto call = [&] { return real(folder, name, flags, mode); };
  const bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
  const bool creates =
      unnamed || ((flags & O_CREAT) != 0 && ::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0);
  if (!creates || !Witness::get().watches(path)) return call();
  return Witness::get().see({.kind = Step::create, .name = unnamed ? "" : path}, call);
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

template <class Real>
ssize_t write_at(Real real, int fd, const void* bytes, std::size_t size, off64_t offset) {
  const Place place(fd);
  const auto call = [&] { return real(fd, bytes, size, offset); };
  if (place.inode == 0) return call();
  return Witness::get().see({.kind = Step::write,
                             .name = place.path,
                             .inode = place.inode,
                             .offset = offset,
                             .bytes = {static_cast<const char*>(bytes), size}},
                            call, [&] { return real(fd, bytes, size / 2, offset); });
}

template <class Call>
int change(Step::Kind kind, int fd, std::int64_t offset, Call call) {
  const Place place(fd);
  if (place.inode == 0) return call();
  return Witness::get().see({.kind = kind, .name = place.path, .inode = place.inode, .offset = offset}, call);
}

template <class Call>
int change(Step::Kind kind, const std::string& name, const std::string& new_name, Call call) {
  if (!Witness::get().watches(name)) return call();
  return Witness::get().see({.kind = kind, .name = name, .new_name = new_name}, call);
}

template <class Call>
ssize_t sent(std::string_view bytes, Call call) {
  return Witness::get().see({.kind = Step::send, .name = "", .bytes = bytes.substr(0, kSentMax)}, call);
}

}  // namespace

extern "C" {

int open(const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  NEXT(openat);
  return open_at(real, AT_FDCWD, name, flags, mode);
}

int open64(const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  NEXT(openat64);
  return open_at(real, AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  NEXT(openat);
  return open_at(real, folder, name, flags, mode);
}

int openat64(int folder, const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  NEXT(openat64);
  return open_at(real, folder, name, flags, mode);
}

int mkdir(const char* name, mode_t mode) {
  NEXT(mkdir);
  return change(Step::folder, name, "", [&] { return real(name, mode); });
}

ssize_t write(int fd, const void* bytes, std::size_t size) {
  NEXT(write);
  const Place place(fd);
  if (place.inode == 0) return real(fd, bytes, size);
  return Witness::get().see(
      {.kind = Step::write,
       .name = place.path,
       .inode = place.inode,
       .offset = place.offset,
       .bytes = {static_cast<const char*>(bytes), size}},
      [&] { return real(fd, bytes, size); }, [&] { return real(fd, bytes, size / 2); });
}

ssize_t pwrite(int fd, const void* bytes, std::size_t size, off_t offset) {
  NEXT(pwrite);
  return write_at(real, fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void* bytes, std::size_t size, off64_t offset) {
  NEXT(pwrite64);
  return write_at(real, fd, bytes, size, offset);
}

int ftruncate(int fd, off_t size) {
  NEXT(ftruncate);
  return change(Step::truncate, fd, size, [&] { return real(fd, size); });
}

int ftruncate64(int fd, off64_t size) {
  NEXT(ftruncate64);
  return change(Step::truncate, fd, size, [&] { return real(fd, size); });
}

int fsync(int fd) {
  NEXT(fsync);
  return change(Step::sync, fd, 0, [&] { return real(fd); });
}

int fdatasync(int fd) {
  NEXT(fdatasync);
  return change(Step::sync, fd, 0, [&] { return real(fd); });
}

int rename(const char* name, const char* new_name) {
  NEXT(rename);
  return change(Step::rename, name, new_name, [&] { return real(name, new_name); });
}

int renameat(int folder, const char* name, int new_folder, const char* new_name) {
  NEXT(renameat);
  return change(Step::rename, path_at(folder, name), path_at(new_folder, new_name),
                [&] { return real(folder, name, new_folder, new_name); });
}

int unlink(const char* name) {
  NEXT(unlink);
  return change(Step::unlink, name, "", [&] { return real(name); });
}

int unlinkat(int folder, const char* name, int flags) {
  NEXT(unlinkat);
  return change(Step::unlink, path_at(folder, name), "", [&] { return real(folder, name, flags); });
}

ssize_t send(int fd, const void* bytes, std::size_t size, int flags) {
  NEXT(send);
  return sent({static_cast<const char*>(bytes), size}, [&] { return real(fd, bytes, size, flags); });
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  NEXT(sendmsg);
  std::string_view first;
  if (message->msg_iovlen > 0) {
    first = {static_cast<const char*>(message->msg_iov[0].iov_base), message->msg_iov[0].iov_len};
  }
  return sent(first, [&] { return real(fd, message, flags); });
}

}  // extern "C"
