#include "console.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/units.h"

namespace dw {
namespace {

volatile std::sig_atomic_t interrupt_count = 0;  // written by the signal handler
struct sigaction previous_action;

void on_interrupt(int) {
  interrupt_count = interrupt_count + 1;
  if (interrupt_count > 1) ::_exit(kInterruptedStatus);
}

Expected<std::string> read_stream(std::FILE* stream, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  while (const size_t got = std::fread(buffer, 1, sizeof buffer, stream)) text.append(buffer, got);
  if (std::ferror(stream)) return make_error("cannot read ", name, ": ", std::strerror(errno));
  return text;
}

bool colour_allowed() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color == nullptr || *no_color == '\0';
}

Error file_error(const char* what, const std::string& path) {
  return make_error("cannot ", what, " ", path, ": ", std::strerror(errno));
}

}  // namespace

int report_error(const Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "deltawing: %s\n", error.message.c_str());
  return 1;
}

InterruptGuard::InterruptGuard() {
  interrupt_count = 0;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, &previous_action);
}
InterruptGuard::~InterruptGuard() {
  ::sigaction(SIGINT, &previous_action, nullptr);
}
bool InterruptGuard::interrupted() {
  return interrupt_count > 0;
}
void InterruptGuard::clear() {
  interrupt_count = 0;
}

ProgressLine::~ProgressLine() {
  clear();
}

void ProgressLine::update(std::string_view stage, uint64_t done, uint64_t total) {
  if (::isatty(STDERR_FILENO) == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - start_ < std::chrono::seconds(1) || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  std::fprintf(stderr, "\r\x1b[K%.*s %s of %s (%d %%)", int(stage.size()), stage.data(),
               format_bytes(done).c_str(), format_bytes(total).c_str(),
               total > 0 ? int(done * 100 / total) : 0);
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (shown_) std::fprintf(stderr, "\r\x1b[K");
  shown_ = false;
}

bool stdin_is_terminal() {
  return ::isatty(STDIN_FILENO) != 0;
}
bool stdout_is_terminal() {
  return ::isatty(STDOUT_FILENO) != 0;
}
bool use_colour() {
  return stdout_is_terminal() && colour_allowed();
}
bool use_colour_on_stderr() {
  return ::isatty(STDERR_FILENO) != 0 && colour_allowed();
}

Expected<std::string> read_standard_input() {
  return read_stream(stdin, "standard input");
}

Expected<std::string> read_file(const std::string& path) {
  if (path == "-") return read_standard_input();
  std::FILE* stream = std::fopen(path.c_str(), "rb");
  if (stream == nullptr) return file_error("open", path);
  auto text = read_stream(stream, path);
  std::fclose(stream);
  return text;
}

Expected<void> write_private_file(const std::string& path, std::string_view text) {
  std::string temporary = path + ".XXXXXX";
  const int fd = ::mkstemp(temporary.data());  // mode 0600
  if (fd < 0) return file_error("write", path);
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) break;
    done += size_t(wrote);
  }
  const bool written = done == text.size() && ::fsync(fd) == 0;
  Error error = file_error("write", path);
  ::close(fd);
  if (written && ::rename(temporary.c_str(), path.c_str()) == 0) return {};
  if (written) error = file_error("write", path);
  ::unlink(temporary.c_str());
  return error;
}

std::string rate_footer(double prompt_tokens, double prompt_seconds, double tokens, double seconds) {
  char text[128];
  std::snprintf(text, sizeof text, "[ prompt %.1f t/s | generation %.1f t/s ]",
                prompt_seconds > 0 ? prompt_tokens / prompt_seconds : 0.0,
                seconds > 0 ? tokens / seconds : 0.0);
  return text;
}

}  // namespace dw
