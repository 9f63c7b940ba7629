#pragma once
#include <string_view>

namespace penstock {

// Whether what is called so, by a name or an address without a port, is certainly this machine, and reached by nobody
// else: localhost, 127.0.0.0/8, ::1 or [::1].
bool is_loopback(std::string_view host);

}  // namespace penstock
