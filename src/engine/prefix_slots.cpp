#include "engine/prefix_slots.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/log.h"

namespace penstock {
namespace {

constexpr std::size_t kSeedsMax = 2;  // the plan brings lines group by group; a group within a group is the second

// A list of prompts, for /v1/completions, would take one slot for one after the other.
bool has_one_prompt(std::string_view path, std::string_view body) {
  if (path == "/v1/chat/completions") return true;
  if (path != "/v1/completions") return false;
  constexpr std::string_view kKey = "\"prompt\"";
  const auto value = body.find_first_not_of(" \t\r\n:", body.find(kKey) + kKey.size());
  return value != body.npos && body[value] == '"';
}

}  // namespace

std::size_t shared_prefix(std::string_view a, std::string_view b) {
  constexpr std::size_t kStep = 256;
  const std::size_t size = std::min(a.size(), b.size());
  std::size_t at = 0;
  while (at + kStep <= size && std::memcmp(a.data() + at, b.data() + at, kStep) == 0) at += kStep;
  while (at < size && a[at] == b[at]) ++at;
  return at;
}

// A slot in use.
class PrefixSlots::Hold {
 public:
  explicit Hold(Slot& slot) : slot_(slot) { slot_.busy = true; }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { slot_.busy = false; }

 private:
  Slot& slot_;
};

// Who waits for a seed.
class PrefixSlots::Wait {
 public:
  Wait(asio::io_context& loop, std::shared_ptr<Seed> seed)
      : seed_(std::move(seed)), place_(seed_->waiting.emplace(seed_->waiting.end(), loop)) {}
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  ~Wait() { seed_->waiting.erase(place_); }
  Event& event() { return *place_; }

 private:
  std::shared_ptr<Seed> seed_;
  const std::list<Event>::iterator place_;
};

PrefixSlots::PrefixSlots(asio::io_context& loop, Clock& clock, Options options, Send send)
    : loop_(loop), clock_(clock), options_(std::move(options)), send_(std::move(send)) {
  slots_.resize(static_cast<std::size_t>(options_.slots));
  seeds_pay_ = options_.slots > 1;
}

PrefixSlots::~PrefixSlots() {
  forget_all();
}

Task<Answer> PrefixSlots::send(std::string_view path, std::string_view body, std::size_t shared_ahead) {
  Slot* slot = has_one_prompt(path, body) ? free_slot(body) : nullptr;
  if (!slot) co_return co_await send_(path, body);
  const Hold hold(*slot);
  auto failure = co_await prepare(std::string(path), *slot, body, shared_ahead);
  if (failure) co_return std::move(*failure);
  slot->body = body;
  const std::string pinned = fmt::format(R"({{"id_slot":{},{})", slot - slots_.data(), body.substr(1));
  co_return co_await send_(path, pinned);
}

PrefixSlots::Slot* PrefixSlots::free_slot(std::string_view body) {
  Slot* best = nullptr;
  std::size_t most = 0;
  for (Slot& slot : slots_) {
    if (slot.busy) continue;
    const std::size_t shared = shared_prefix(slot.body, body);
    if (best && shared <= most) continue;
    best = &slot;
    most = shared;
  }
  return best;
}

std::shared_ptr<PrefixSlots::Seed> PrefixSlots::best_seed(std::string_view body) const {
  std::shared_ptr<Seed> best;
  std::size_t most = 0;
  for (const auto& seed : seeds_) {
    if (const std::size_t shared = shared_prefix(seed->body, body); shared > most) {
      best = seed;
      most = shared;
    }
  }
  return best;
}

// Gets as much of the prompt into the slot's cache as there is, or as it is worth to make. Returns an answer when the
// engine has not coped even with that: it is the line's own.
Task<std::optional<Answer>> PrefixSlots::prepare(std::string path, Slot& slot, std::string_view body,
                                                 std::size_t shared_ahead) {
  while (seeds_pay_) {
    const std::size_t cached = shared_prefix(slot.body, body);
    const auto seed = best_seed(body);
    if (seed && shared_prefix(seed->body, body) >= cached + options_.shared_bytes) {
      if (seed->ready) {
        auto failure = co_await restore(slot, seed);
        if (failure) co_return failure;
      } else {
        Wait wait(loop_, seed);
        co_await wait.event().wait();
      }
      continue;
    }
    if (shared_ahead >= cached + options_.shared_bytes) co_return co_await lead(std::move(path), slot, body);
    break;
  }
  co_return std::nullopt;
}

std::string PrefixSlots::path_of(const Slot& slot, const char* action) const {
  return fmt::format("/slots/{}?action={}", &slot - slots_.data(), action);
}

Task<std::optional<Answer>> PrefixSlots::restore(Slot& slot, std::shared_ptr<Seed> seed) {
  const std::string path = path_of(slot, "restore"), body = fmt::format(R"({{"filename":"{}"}})", seed->file);
  const Moment start = clock_.monotonic();
  slot.body.clear();
  Answer answer = co_await send_(path, body);
  if (answer.kind != Answer::Kind::response) co_return answer;
  if (answer.status != 200) {
    forget(seed);
    co_return std::nullopt;
  }
  slot.body = seed->body;
  if (2 * (clock_.monotonic() - start) > seed->evaluation) {
    stop_seeding("to evaluate a prefix again is as quick as to read it from a file");
  }
  co_return std::nullopt;
}

// Evaluates the prompt alone, so that others need not wait for the answer too.
Task<std::optional<Answer>> PrefixSlots::lead(std::string path, Slot& slot, std::string_view body) {
  const auto seed = std::make_shared<Seed>();
  seed->file = fmt::format("prefix-{}", ++files_);
  seed->body = body;
  seeds_.push_front(seed);
  const auto give_up = [this](Seed* given) {
    if (!given->ready) forget(given->shared_from_this());
  };
  const std::unique_ptr<Seed, decltype(give_up)> unless_ready(seed.get(), give_up);

  // The last of two equal keys counts for llama-server.
  const std::string prompt_alone =
      fmt::format(R"({{"id_slot":{},{},"max_tokens":0,"max_completion_tokens":0,"n_predict":0,"n":1}})",
                  &slot - slots_.data(), body.substr(1, body.size() - 2));
  const Moment start = clock_.monotonic();
  slot.body.clear();
  Answer evaluated = co_await send_(path, prompt_alone);
  if (evaluated.kind != Answer::Kind::response) co_return evaluated;
  if (evaluated.status != 200) co_return std::nullopt;  // as it will say to the request itself
  slot.body = body;
  seed->evaluation = clock_.monotonic() - start;
  const std::string save = path_of(slot, "save"), file = fmt::format(R"({{"filename":"{}"}})", seed->file);
  Answer saved = co_await send_(save, file);
  if (saved.kind != Answer::Kind::response) co_return saved;
  if (saved.status != 200) {
    stop_seeding("its slots cannot be saved");
    co_return std::nullopt;
  }
  const bool is_wanted = std::find(seeds_.begin(), seeds_.end(), seed) != seeds_.end();
  if (!is_wanted) co_return std::nullopt;  // the disk has become low
  seed->ready = true;
  for (Event& event : seed->waiting) event.notify();
  auto oldest = std::prev(seeds_.end());
  for (std::size_t more = seeds_.size(); more > kSeedsMax && *oldest != seed; --more) {
    const auto kept = *oldest--;
    if (kept->ready) forget(kept);
  }
  co_return std::nullopt;
}

void PrefixSlots::forget_all() {
  while (!seeds_.empty()) forget(seeds_.front());
}

void PrefixSlots::forget(const std::shared_ptr<Seed>& seed) {
  const auto kept = seed;  // `seed` may be the list's own
  for (Event& event : kept->waiting) event.notify();
  seeds_.remove(kept);
  std::error_code ignored;
  std::filesystem::remove(options_.folder + "/" + kept->file, ignored);
}

void PrefixSlots::stop_seeding(const std::string& why) {
  if (!std::exchange(seeds_pay_, false)) return;
  log::info("shared prefixes are no longer copied between slots: {}", why);
  forget_all();
}

}  // namespace penstock
