#include "line_reader.h"

#include <histedit.h>
#include <sys/stat.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "console.h"

namespace dw {
namespace {

constexpr int kHistoryEntries = 1000;

// $XDG_STATE_HOME/deltawing/history (XDG base directories); empty where there is no home.
std::string history_path() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder;
  if (state != nullptr && *state == '/')
    folder = state;
  else if (home != nullptr && *home != '\0')
    folder = std::string(home) + "/.local/state";
  else
    return "";
  folder += "/deltawing";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  return error ? "" : folder + "/history";
}

}  // namespace

struct LineReader::Editor {
  EditLine* line = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string prompt, history_file;
  bool interrupted = false;

  Editor();
  ~Editor();

  static Editor& of(EditLine* line) {
    void* self = nullptr;
    ::el_get(line, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }
  static char* show_prompt(EditLine* line) { return of(line).prompt.data(); }
  static unsigned char interrupt(EditLine* line, wint_t) {
    of(line).interrupted = true;
    return CC_EOF;
  }
};

LineReader::Editor::Editor() {
  // libedit edits characters, not bytes, only in a UTF-8 locale.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX < 4) std::setlocale(LC_CTYPE, "C.UTF-8");
  line = ::el_init("deltawing", stdin, stdout, stderr);
  history = ::history_init();
  ::history(history, &event, H_SETSIZE, kHistoryEntries);
  ::history(history, &event, H_SETUNIQUE, 1);
  history_file = history_path();
  if (!history_file.empty()) ::history(history, &event, H_LOAD, history_file.c_str());
  ::el_set(line, EL_CLIENTDATA, this);
  ::el_set(line, EL_PROMPT, &Editor::show_prompt);
  ::el_set(line, EL_EDITOR, "emacs");
  ::el_set(line, EL_HIST, ::history, history);
  // Ctrl+C comes as a character while a line is edited, so that it needs no signal to clear the line.
  ::el_set(line, EL_SETTY, "-d", "-isig", nullptr);
  // The signal itself, when it arrives just as an answer ends, must not end the program.
  std::signal(SIGINT, SIG_IGN);
  ::el_wset(line, EL_ADDFN, L"deltawing-interrupt", L"clear the line", &Editor::interrupt);  // el_set leaks
  ::el_set(line, EL_BIND, "^C", "deltawing-interrupt", nullptr);
}

LineReader::Editor::~Editor() {
  std::signal(SIGINT, SIG_DFL);
  ::history_end(history);
  ::el_end(line);
}

LineReader::LineReader() {
  if (stdin_is_terminal()) editor_ = std::make_unique<Editor>();
}

LineReader::~LineReader() = default;

LineReader::Result LineReader::read(const std::string& prompt, std::string& line) {
  line.clear();
  if (editor_ == nullptr) {
    if (!std::getline(std::cin, line)) return Result::kEnd;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return Result::kLine;
  }
  editor_->prompt = prompt;
  editor_->interrupted = false;
  ::el_set(editor_->line, EL_PREP_TERM, 1);  // before the prompt is seen, so that no key typed at it is lost
  int count = 0;
  const char* text = ::el_gets(editor_->line, &count);
  if (editor_->interrupted) {
    ::el_reset(editor_->line);
    std::fputs("^C\n", stdout);
    return Result::kInterrupted;
  }
  if (text == nullptr || count <= 0) return Result::kEnd;
  line.assign(text, size_t(count));
  if (line.back() == '\n') line.pop_back();
  return Result::kLine;
}

void LineReader::add_to_history(const std::string& text) {
  if (editor_ == nullptr || text.empty()) return;
  ::history(editor_->history, &editor_->event, H_ENTER, text.c_str());
  if (editor_->history_file.empty()) return;
  const mode_t mask = ::umask(0077);  // what people ask is theirs alone
  ::history(editor_->history, &editor_->event, H_SAVE, editor_->history_file.c_str());
  ::umask(mask);
}

}  // namespace dw
