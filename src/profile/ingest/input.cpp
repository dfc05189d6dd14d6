#include "profile/ingest/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace dw::profile {
namespace {

constexpr size_t kStep = size_t(256) << 10;

class FileSource : public ByteSource {
 public:
  explicit FileSource(int fd) : fd_(fd) {}
  ~FileSource() override { ::close(fd_); }
  size_t read(char* out, size_t size) override {
    while (true) {
      const ssize_t got = ::read(fd_, out, size);
      if (got >= 0) return size_t(got);
      if (errno == EINTR) continue;
      problem_ = std::string("reading failed: ") + std::strerror(errno);
      return 0;
    }
  }

 private:
  int fd_;
};

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  size_t read(char* out, size_t size) override {
    size = std::min(size, bytes_.size());
    if (size > 0) std::memcpy(out, bytes_.data(), size);
    bytes_.remove_prefix(size);
    return size;
  }

 private:
  std::string_view bytes_;
};

// Hands out what was read to recognise the packing, then the rest.
class PushedBack : public ByteSource {
 public:
  PushedBack(std::string head, std::unique_ptr<ByteSource> rest)
      : head_(std::move(head)), rest_(std::move(rest)) {}
  size_t read(char* out, size_t size) override {
    if (at_ < head_.size()) {
      size = std::min(size, head_.size() - at_);
      std::memcpy(out, head_.data() + at_, size);
      at_ += size;
      return size;
    }
    const size_t got = rest_->read(out, size);
    if (got == 0) problem_ = rest_->problem();
    return got;
  }

 private:
  std::string head_;
  size_t at_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<ByteSource> raw) : raw_(std::move(raw)), packed_(kStep) {
    ready_ = ::inflateInit2(&stream_, 15 + 16) == Z_OK;
    if (!ready_) problem_ = "zlib cannot start";
  }
  ~GzipSource() override {
    if (ready_) ::inflateEnd(&stream_);
  }
  size_t read(char* out, size_t size) override {
    if (!problem_.empty() || done_) return 0;
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = uInt(std::min(size, size_t(1) << 30));
    const uInt asked = stream_.avail_out;
    while (stream_.avail_out == asked && problem_.empty() && !done_) step();
    unpacked_ += asked - stream_.avail_out;
    return asked - stream_.avail_out;
  }

 private:
  bool refill() {
    const size_t got = raw_->read(packed_.data(), packed_.size());
    stream_.next_in = reinterpret_cast<Bytef*>(packed_.data());
    stream_.avail_in = uInt(got);
    return got > 0;
  }
  void fail(const std::string& what) {
    problem_ = "the gzip data " + what + " after " + std::to_string(unpacked_) + " unpacked bytes";
    if (!raw_->problem().empty()) problem_ += " (" + raw_->problem() + ")";
  }
  void step() {
    if (stream_.avail_in == 0 && !refill()) {
      if (between_)
        done_ = true;
      else
        fail("end early,");
      return;
    }
    if (between_) {  // another member may follow; anything else (zero padding) is no data
      if (*stream_.next_in != 0x1f) {
        done_ = true;
        return;
      }
      ::inflateReset(&stream_);
      between_ = false;
    }
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END)
      between_ = true;
    else if (status != Z_OK && status != Z_BUF_ERROR)
      fail("are damaged");
  }

  std::unique_ptr<ByteSource> raw_;
  std::vector<char> packed_;
  z_stream stream_{};
  uint64_t unpacked_ = 0;
  bool ready_ = false, between_ = false, done_ = false;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<ByteSource> raw)
      : raw_(std::move(raw)), packed_(kStep), stream_(::ZSTD_createDStream()) {
    if (stream_ == nullptr) problem_ = "zstd cannot start";
    // A window above 128 MiB is the file's claim on our memory; zstd's own tool refuses it too.
    else
      ::ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, 27);
  }
  ~ZstdSource() override { ::ZSTD_freeDStream(stream_); }
  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer target{out, size, 0};
    while (target.pos == 0 && problem_.empty() && !done_) {
      if (in_.pos == in_.size && !flushing_) {
        in_ = {packed_.data(), raw_->read(packed_.data(), packed_.size()), 0};
        if (in_.size == 0) {
          if (between_)
            done_ = true;
          else
            fail("end early,");
          break;
        }
      }
      const size_t before = target.pos;
      const size_t status = ::ZSTD_decompressStream(stream_, &target, &in_);
      if (::ZSTD_isError(status))
        fail(std::string("are damaged (") + ::ZSTD_getErrorName(status) + ")");
      else
        between_ = status == 0;
      flushing_ = !between_ && target.pos == target.size && target.pos > before;
    }
    unpacked_ += target.pos;
    return target.pos;
  }

 private:
  void fail(const std::string& what) {
    problem_ = "the zstd data " + what + " after " + std::to_string(unpacked_) + " unpacked bytes";
  }
  std::unique_ptr<ByteSource> raw_;
  std::vector<char> packed_;
  ZSTD_DStream* stream_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  uint64_t unpacked_ = 0;
  bool between_ = false, done_ = false, flushing_ = false;
};

}  // namespace

Input::Input(std::unique_ptr<ByteSource> raw) : buffer_(kStep * 4) {
  std::string head(4, '\0');
  size_t got = 0;
  while (got < head.size()) {
    const size_t more = raw->read(head.data() + got, head.size() - got);
    if (more == 0) break;
    got += more;
  }
  head.resize(got);
  const bool gzip = head.starts_with("\x1f\x8b");
  const bool zstd = head.starts_with("\x28\xb5\x2f\xfd");
  auto whole = std::make_unique<PushedBack>(std::move(head), std::move(raw));
  packed_ = gzip || zstd;
  if (gzip)
    source_ = std::make_unique<GzipSource>(std::move(whole));
  else if (zstd)
    source_ = std::make_unique<ZstdSource>(std::move(whole));
  else
    source_ = std::move(whole);
}

Expected<Input> Input::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return make_error("cannot open ", path, ": ", std::strerror(errno));
  auto source = std::make_unique<FileSource>(fd);
  struct stat status {};
  if (::fstat(fd, &status) != 0) return make_error("cannot read ", path, ": ", std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return make_error(path, " is a directory; name the trace file in it");
  if (S_ISREG(status.st_mode) && status.st_size == 0) return make_error(path, " is empty");
  return Input(std::move(source));
}

Input Input::of_bytes(std::string_view bytes) {
  return Input(std::make_unique<MemorySource>(bytes));
}

void Input::fill(size_t size) {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() < size) buffer_.resize(std::max(size, buffer_.size() * 2));
  while (end_ < size && !ended_) {
    const size_t got = source_->read(buffer_.data() + end_, buffer_.size() - end_);
    if (got == 0) ended_ = true;
    end_ += got;
  }
}

bool Input::more() {
  const size_t seen = end_ - begin_;
  fill(seen + 1);
  return end_ - begin_ > seen;
}

bool LineReader::next(std::string_view& line) {
  input_.consume(pending_);
  pending_ = 0;
  std::string_view window = input_.peek(1);
  if (window.empty()) return false;
  size_t searched = 0;
  while (true) {
    const char* found =
        static_cast<const char*>(std::memchr(window.data() + searched, '\n', window.size() - searched));
    if (found != nullptr) {
      line = window.substr(0, size_t(found - window.data()));
      pending_ = line.size() + 1;
      newline_ = true;
      break;
    }
    searched = window.size();
    if (searched > kLongestLine) {
      if (!skip_long_line()) return false;
      window = input_.peek(1);
      if (window.empty()) return false;
      searched = 0;
      continue;
    }
    if (!input_.more()) {
      line = window = input_.peek(0);
      pending_ = line.size();
      newline_ = false;
      break;
    }
    window = input_.peek(0);
  }
  ++number_;
  if (line.ends_with('\r')) line.remove_suffix(1);
  return true;
}

bool LineReader::skip_long_line() {
  ++long_lines_;
  ++number_;
  while (true) {
    const std::string_view window = input_.peek(1);
    if (window.empty()) return false;
    const size_t end = window.find('\n');
    input_.consume(end == std::string_view::npos ? window.size() : end + 1);
    if (end != std::string_view::npos) return true;
  }
}

}  // namespace dw::profile
