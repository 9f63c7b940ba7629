#include "model/api_key_text.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <array>
#include <boost/crc.hpp>
#include <cerrno>
#include <system_error>

#include "base/sha256.h"

namespace penstock {
namespace {

constexpr std::string_view kPrefix = "psk_";
constexpr std::string_view kBase62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::size_t kRandomSize = 27, kChecksumSize = 6;

std::string checksum(std::string_view text) {
  boost::crc_32_type crc;
  crc.process_bytes(text.data(), text.size());
  std::uint32_t rest = crc.checksum();
  std::string out(kChecksumSize, kBase62[0]);
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, rest /= kBase62.size()) {
    *digit = kBase62[rest % kBase62.size()];
  }
  return out;
}

}  // namespace

std::string make_key_text() {
  constexpr std::size_t kFair = 256 / kBase62.size() * kBase62.size();  // bytes from here on would favour some
  std::string text(kPrefix);
  while (text.size() < kPrefix.size() + kRandomSize) {
    std::array<unsigned char, kRandomSize> bytes;
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
      throw std::system_error(errno, std::generic_category(), "getrandom");
    }
    for (const unsigned char byte : bytes) {
      if (byte < kFair && text.size() < kPrefix.size() + kRandomSize) text += kBase62[byte % kBase62.size()];
    }
  }
  return text + checksum(text);
}

bool is_key_text(std::string_view text) {
  return text.size() == kPrefix.size() + kRandomSize + kChecksumSize && text.starts_with(kPrefix) &&
         text.find_first_not_of(kBase62, kPrefix.size()) == std::string_view::npos &&
         text.ends_with(checksum(text.substr(0, kPrefix.size() + kRandomSize)));
}

std::string key_hash(std::string_view text) {
  return sha256_hex(text);
}

std::string key_hint(std::string_view text) {
  return fmt::format("{}…{}", text.substr(0, kPrefix.size() + 4), text.substr(text.size() - 4));
}

ApiKey new_key(std::string_view text, Timestamp now) {
  ApiKey key;
  key.id = {random_id("key_")};
  key.hint = key_hint(text);
  key.created_at = now;
  return key;
}

}  // namespace penstock
