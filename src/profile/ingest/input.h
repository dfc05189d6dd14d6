// The bytes of a file as a moving window, unpacked on the way when they are gzip or zstd (seen from the first
// bytes, not from the name). Memory: the window, which grows only as far as a caller asks to see at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/expected.h"

namespace dw::profile {

// Where bytes come from. read() gives 0 at the end; problem() then says why, if it was no proper end.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual size_t read(char* out, size_t size) = 0;
  const std::string& problem() const { return problem_; }

 protected:
  std::string problem_;
};

class Input {
 public:
  // Errors: cannot be opened, a directory, empty.
  static Expected<Input> open(const std::string& path);
  // For tests: the bytes must outlive the input. Packed bytes are unpacked here too.
  static Input of_bytes(std::string_view bytes);

  // At least `size` bytes from the current position on, fewer only where the input ends.
  std::string_view peek(size_t size) {
    if (end_ - begin_ < size) fill(size);
    return {buffer_.data() + begin_, end_ - begin_};
  }
  // More than the last peek() saw; false at the end.
  bool more();
  void consume(size_t size) {
    begin_ += size;
    position_ += size;
  }
  uint64_t position() const { return position_; }  // unpacked bytes consumed
  bool packed() const { return packed_; }
  // Reading stopped before the data's own end: "the gzip data end early, after 123 bytes". Else empty.
  const std::string& problem() const { return source_->problem(); }

 private:
  explicit Input(std::unique_ptr<ByteSource> raw);
  void fill(size_t size);

  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
  uint64_t position_ = 0;
  bool packed_ = false, ended_ = false;
};

// Lines without their ends (LF or CRLF). A line longer than kLongestLine is left out and counted.
class LineReader {
 public:
  explicit LineReader(Input& input) : input_(input) {}
  bool next(std::string_view& line);
  uint64_t number() const { return number_; }         // of the last line, from 1
  bool ended_in_newline() const { return newline_; }  // of the last line
  uint64_t long_lines() const { return long_lines_; }

  static constexpr size_t kLongestLine = size_t(4) << 20;

 private:
  bool skip_long_line();
  Input& input_;
  uint64_t number_ = 0, long_lines_ = 0;
  size_t pending_ = 0;  // of the last line, consumed with the next call
  bool newline_ = true;
};

}  // namespace dw::profile
