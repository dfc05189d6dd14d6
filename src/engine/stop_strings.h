// Finds stop strings in a text that arrives in pieces. The stop string that is complete first counts (of two
// that end together, the longer one), so the result does not depend on where the pieces are cut. Text that
// could still turn into a stop string is held back; everything else is passed on at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dw {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);  // empty strings are ignored

  // Appends what may be shown now to `out`. Returns true when a stop string is complete: it and what follows
  // it are not shown, and the matcher is finished.
  bool push(std::string_view piece, std::string& out);
  // The end of the text: what was held back.
  void flush(std::string& out);

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace dw
