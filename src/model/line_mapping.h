#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace penstock {

// Makes a JSON object of one's own out of each output line, with values that stand in it. One thread at a time.
class LineMapping {
 public:
  // A name in the object, and a path into the line, such as `$.response.body.choices[0].message.content`: a `$`, then
  // names behind dots and indices in brackets; or, of an object in the object, its fields.
  struct Field {
    std::string name, path;
    std::vector<Field> fields = {};
  };

  // Error invalid_request, whose `param` names the field, where a path is none.
  static Result<LineMapping> make(const std::vector<Field>& fields);
  ~LineMapping();
  LineMapping(LineMapping&&) noexcept;
  LineMapping& operator=(LineMapping&&) noexcept;

  // Appends the object of that line. Values keep their bytes; one that the line does not have is null.
  void append(std::string& out, std::string_view line);

 private:
  LineMapping();
  Result<void> add(const std::vector<Field>& fields, const std::string& parent);

  // The object is each piece's text and what its pointer (RFC 6901) finds, one behind the other, and `end_`.
  struct Piece {
    std::string text, pointer;
  };
  std::vector<Piece> pieces_;
  std::string end_;
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace penstock
