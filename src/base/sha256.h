#pragma once
#include <string>
#include <string_view>

// SHA-256 (FIPS 180-4) and what is made with it.
namespace penstock {

// In lower-case hexadecimal.
std::string hex(std::string_view bytes);
std::string sha256_hex(std::string_view bytes);

// RFC 2104: 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view message);

}  // namespace penstock
