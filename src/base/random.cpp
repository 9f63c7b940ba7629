#include "base/random.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace penstock {

std::string random_id(std::string_view prefix) {
  std::array<unsigned char, 16> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  std::string id(prefix);
  for (const unsigned char byte : bytes) {
    id += "0123456789abcdef"[byte >> 4];
    id += "0123456789abcdef"[byte & 15];
  }
  return id;
}

}  // namespace penstock
