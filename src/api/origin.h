#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

// Where a browser's request comes from, as it says itself in `Origin` (RFC 6454), and to whom it thinks that it speaks,
// in `Host`. A page cannot choose either.
namespace penstock {

// An origin as browsers spell it: scheme://host, with the port where it is not the scheme's own. The error says what
// else was found.
Result<std::string> parse_origin(std::string_view text);

// For when there are no API keys, and whoever can call this machine's own addresses may do everything. A page of any
// site can have the browser on this machine call those: with an origin of its own, or with none but to a host name of
// its own that it has resolve to this machine. So `host` must be a name of this machine, and `origin`, if there is one,
// that same host or one of `allowed`. Both are the headers' values; a browser sends neither twice. Else error
// forbidden, which says what to do.
std::optional<Error> refuse_foreign(std::optional<std::string_view> host, std::optional<std::string_view> origin,
                                    const std::vector<std::string>& allowed);

}  // namespace penstock
