#pragma once

// What `penstock` ends with. A test holds the table of docs/cli.md to these lines.
namespace penstock {

constexpr int kExitOk = 0;              // all went well
constexpr int kExitLinesFailed = 1;     // some lines failed; of `doctor` and `models check`: something is wrong
constexpr int kExitUsage = 2;           // the command, its input or the configuration is wrong, and nothing was done
constexpr int kExitUnreachable = 3;     // the server cannot be reached, or was away for too long
constexpr int kExitRefused = 4;         // the server refused what was asked of it
constexpr int kExitBatchFailed = 5;     // the batch failed: its file has faults, and none of its lines was run
constexpr int kExitBatchExpired = 6;    // the batch expired; what was answered by then is kept
constexpr int kExitBatchCancelled = 7;  // the batch was cancelled; what was answered by then is kept
constexpr int kExitAccident = 70;       // an accident, such as a disk that cannot be written
constexpr int kExitNotDurable = 74;     // what was written did not get to the disk
constexpr int kExitInterrupted = 130;   // interrupted, by Ctrl-C or SIGTERM

constexpr int kExitFaults = kExitLinesFailed;

}  // namespace penstock
