#pragma once
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Figures for monitoring. Whoever has something to tell keeps plain numbers and histograms, which the loop thread alone
// touches; a page of them is written when it is asked for.
namespace penstock::metrics {

// How many values were at most as large as each of some bounds, which are sorted and outlive it.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void add(double value);

  std::span<const double> bounds() const { return bounds_; }
  // One a bound, and one for what is above all.
  const std::vector<std::int64_t>& counts() const { return counts_; }
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::vector<std::int64_t> counts_;
  double sum_ = 0;
};

// Finer than the clock that the program goes by.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Prometheus' text format 0.0.4, and OpenMetrics 1.0.
enum class Format { prometheus, open_metrics };

// What a scraper wants that sends this `Accept`.
Format format_for(std::string_view accept);
std::string_view content_type(Format format);

using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// A page: families one after the other, each begun and then given its samples.
class Exposition {
 public:
  explicit Exposition(Format format) : format_(format) {}

  // The name ends in _total.
  void counter(std::string_view name, std::string_view help);
  void gauge(std::string_view name, std::string_view help);
  void histogram(std::string_view name, std::string_view help);
  // What never changes, told by labels. The name ends in _info.
  void info(std::string_view name, std::string_view help);

  void sample(Labels labels, std::int64_t value);
  void sample(Labels labels, double value);
  void sample(Labels labels, const Histogram& histogram);

  // Once, at the end.
  std::string text();

 private:
  void family(std::string_view name, std::string_view type, std::string_view help);
  void line(std::string_view suffix, Labels labels, std::string_view le, std::string_view value);

  const Format format_;
  std::string name_, out_;
};

}  // namespace penstock::metrics
