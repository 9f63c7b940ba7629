#pragma once
#include <string>
#include <string_view>

#include "model/access.h"

// What an API key looks like: "psk_", 27 random characters of base62, which are a little more than 160 bits, and six
// that are the CRC-32 of all before. So a key that was mistyped or made up is known without asking anybody, and one in
// a place where it should not be can be found. Only its hash is stored.
namespace penstock {

std::string make_key_text();

// Whether it looks like one: the checksum too.
bool is_key_text(std::string_view text);

// SHA-256 in lower-case hexadecimal. A key has all the randomness that a hash of it needs.
std::string key_hash(std::string_view text);

// Enough of a key for its owner to know it by: "psk_abcd…wxyz".
std::string key_hint(std::string_view text);

// What a new key of that text has, whatever else it is to be: its id, hint and time of creation.
ApiKey new_key(std::string_view text, Timestamp now);

}  // namespace penstock
