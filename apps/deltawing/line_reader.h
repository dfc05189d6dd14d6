// Lines a person types: libedit with a history file when standard input is a terminal, plain lines when it is
// piped.
#pragma once

#include <memory>
#include <string>

namespace dw {

class LineReader {
 public:
  enum class Result { kLine, kInterrupted, kEnd };

  LineReader();
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // One line without its line feed. kInterrupted: Ctrl+C, what was typed is dropped. kEnd: Ctrl+D or the end
  // of the input. The prompt is shown at a terminal only.
  Result read(const std::string& prompt, std::string& line);
  void add_to_history(const std::string& text);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null: standard input is no terminal
};

}  // namespace dw
