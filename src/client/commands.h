#pragma once
#include "client/session.h"

// What `penstock` does at a server. What is asked for goes to standard output, words about it to standard error. Each
// returns what the program ends with.
namespace penstock {

// Uploads a file and makes a batch of it, whose id it prints.
Task<int> submit(Session& session, const ClientOptions& options);
// Follows a batch to its end, over restarts of the server too, and brings its files when an output is named.
Task<int> watch(Session& session, const ClientOptions& options);
Task<int> list(Session& session, const ClientOptions& options);
Task<int> show(Session& session, const ClientOptions& options);
// The lines that are saved, and with `follow` those to come.
Task<int> results(Session& session, const ClientOptions& options);
// Brings the files of a batch that has ended, each whole or not at all.
Task<int> fetch(Session& session, const ClientOptions& options);
Task<int> cancel(Session& session, const ClientOptions& options);
Task<int> retry(Session& session, const ClientOptions& options);
Task<int> pause(Session& session, const ClientOptions& options);
Task<int> resume(Session& session, const ClientOptions& options);

Task<int> models(Session& session, const ClientOptions& options);
Task<int> engines(Session& session, const ClientOptions& options);
Task<int> workers(Session& session, const ClientOptions& options);
// The queue, the engines and their rates, live on a terminal and else once.
Task<int> top(Session& session, const ClientOptions& options);

}  // namespace penstock
