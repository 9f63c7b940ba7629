#pragma once
#include <string>
#include <string_view>

#include "base/exit_codes.h"

// What was written becomes durable here, or the process ends. After a failed fsync the kernel may drop the pages it
// could not write and call them clean: a second fsync would succeed over lost bytes, and reading would show what no
// disk holds. So none is ever tried again. A restart goes on from what is durable.
namespace penstock {

// One line in the log, then the process ends with kExitNotDurable, whatever else is under way. Any thread.
[[noreturn]] void end_not_durable(std::string_view what);

// The bytes of a new file. Throws std::system_error when the disk turns out to be full only now, as network file
// systems may find: the caller must give up the file.
void sync_file(int fd);

// The names in a directory.
void sync_directory(int fd);
void sync_directory(const std::string& path);

}  // namespace penstock
