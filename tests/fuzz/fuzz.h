#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// What the targets share. Their inputs are texts: a few lines that say how, then the bytes to read.
namespace penstock {

// Ends the process when a property does not hold; libFuzzer then keeps the input.
inline void require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "This does not hold: %s\n", property);
  std::abort();
}

// The text before the next newline. `text` goes on behind it.
inline std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

// Cuts bytes into pieces as large as the characters of `sizes` say, over and over; without any it is one piece. Behind
// each piece lies memory that cannot be read, so that even a library that ASan does not see into is caught past its
// end. Only one of these is in use at a time.
class Cutter {
 public:
  Cutter(std::string_view bytes, std::string_view sizes) : bytes_(bytes), sizes_(sizes) {}

  // Empty at the end; the next call overwrites it.
  std::string_view next() {
    const std::size_t wanted =
        sizes_.empty() ? bytes_.size() : static_cast<unsigned char>(sizes_[at_++ % sizes_.size()]);
    const std::size_t size = std::min({std::max<std::size_t>(wanted, 1), bytes_.size(), kSizeMax});
    char* const piece = guard() - size;
    std::copy_n(bytes_.begin(), size, piece);
    bytes_.remove_prefix(size);
    return {piece, size};
  }

 private:
  static constexpr std::size_t kSizeMax = 1 << 20;

  static char* guard() {
    static char* const guard = [] {
      void* const memory = ::mmap(nullptr, 2 * kSizeMax, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      require(memory != MAP_FAILED, "there is memory");
      char* const end = static_cast<char*>(memory) + kSizeMax;
      require(::mprotect(end, kSizeMax, PROT_NONE) == 0, "memory can be protected");
      return end;
    }();
    return guard;
  }

  std::string_view bytes_, sizes_;
  std::size_t at_ = 0;
};

}  // namespace penstock
