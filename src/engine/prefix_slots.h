#pragma once
#include <list>
#include <memory>

#include "engine/engine.h"

namespace penstock {

// The slots of one llama-server, and what their caches hold. llama-server shares no prefix between slots: each
// evaluates it for itself. So when requests that share a long one begin, the first evaluates it in one slot, which is
// saved to a file, and the others' slots are restored from there. Where that brings nothing (a model whose state cannot
// be saved, a device that evaluates as fast as files are read) it is done no more. Loop thread only.
//
// POST /slots/N?action=save|restore and "id_slot" in a request: llama.cpp, tools/server/README.md.
class PrefixSlots {
 public:
  using Send = std::function<Task<Answer>(std::string_view path, std::string_view body)>;
  struct Options {
    int slots = 1;
    std::string folder;               // llama-server's --slot-save-path; ours alone
    std::size_t shared_bytes = 1024;  // fewer are evaluated rather than restored
  };

  PrefixSlots(asio::io_context& loop, Clock& clock, Options options, Send send);
  // When no send() is under way.
  ~PrefixSlots();

  // As Engine::send().
  Task<Answer> send(std::string_view path, std::string_view body, std::size_t shared_ahead);
  // Removes the files, whose room is needed.
  void forget_all();

 private:
  struct Slot {
    bool busy = false;
    std::string body;  // of the last request, whose prompt is in its cache
  };
  // A request whose prompt is in a file, or will be.
  struct Seed : std::enable_shared_from_this<Seed> {
    std::string file, body;
    Millis evaluation{};  // how long its prompt took
    bool ready = false;
    std::list<Event> waiting;
  };
  class Hold;
  class Wait;

  Slot* free_slot(std::string_view body);
  std::shared_ptr<Seed> best_seed(std::string_view body) const;
  std::string path_of(const Slot& slot, const char* action) const;
  Task<std::optional<Answer>> prepare(std::string path, Slot& slot, std::string_view body, std::size_t shared_ahead);
  Task<std::optional<Answer>> restore(Slot& slot, std::shared_ptr<Seed> seed);
  Task<std::optional<Answer>> lead(std::string path, Slot& slot, std::string_view body);
  void forget(const std::shared_ptr<Seed>& seed);
  void stop_seeding(const std::string& why);

  asio::io_context& loop_;
  Clock& clock_;
  Options options_;
  Send send_;
  std::vector<Slot> slots_;
  std::list<std::shared_ptr<Seed>> seeds_;  // latest first
  int files_ = 0;
  bool seeds_pay_ = true;
};

// How many bytes both begin with.
std::size_t shared_prefix(std::string_view a, std::string_view b);

}  // namespace penstock
