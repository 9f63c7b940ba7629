#pragma once
#include <string>
#include <string_view>

namespace penstock {

// 128 random bits behind a prefix, in lower-case hexadecimal.
std::string random_id(std::string_view prefix);

}  // namespace penstock
