// Tokenizer speed on one core, in MB/s of input. The vocabulary is a folder that
// tools/oracle/make_tokenizer_fixtures.py wrote; texts are files of any kind.
//   bench_tokenizer [--vocabulary DIR] [--seconds S] [--json] [FILE...]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "../tests/text/tokenizer_fixture.h"
#include "text/detokenizer.h"

namespace {

struct Options {
  std::string vocabulary = "tests/data/text/tokenizer";
  double seconds = 1;
  bool json = false;
  std::vector<std::string> files;
};

struct Text {
  std::string name, bytes;
};

// Seconds of processor time (other programs on the machine do not count): the first run, with a cold cache,
// and the best of as many as fit.
template <class Run>
std::pair<double, double> measure(double seconds, const Run& run) {
  double first = 0, best = 1e30, total = 0;
  while (total < seconds || total == 0) {
    const std::clock_t start = std::clock();
    run();
    const double taken = std::max(1e-6, double(std::clock() - start) / CLOCKS_PER_SEC);
    if (total == 0) first = taken;
    best = std::min(best, taken);
    total += taken;
  }
  return {first, best};
}

std::vector<Text> default_texts(const std::string& vocabulary) {
  Text code{"this repository's C++", {}}, mixed{"fixture texts, all scripts", {}};
  std::vector<std::filesystem::path> paths;
  if (std::filesystem::is_directory("src")) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator("src")) {
      const auto extension = entry.path().extension();
      if (extension == ".h" || extension == ".cpp") paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    code.bytes.append(std::istreambuf_iterator<char>(file), {});
  }
  for (const std::string& line : dw::fixture::read_lines(vocabulary + "/encode.txt")) {
    mixed.bytes += dw::fixture::unescape(dw::fixture::split_tabs(line).back());
  }
  return {code, mixed, {"1 MB of one letter", std::string(1000000, 'a')}};
}

int bench(const Options& options) {
  auto tokenizer = dw::Tokenizer::create(dw::fixture::read_vocabulary(options.vocabulary, "qwen2"));
  if (!tokenizer) {
    std::fprintf(stderr, "%s: %s\n", options.vocabulary.c_str(), tokenizer.error().message.c_str());
    return 1;
  }
  std::vector<Text> texts;
  for (const std::string& name : options.files) {
    std::ifstream file(name, std::ios::binary);
    texts.push_back({name, std::string(std::istreambuf_iterator<char>(file), {})});
  }
  if (texts.empty()) texts = default_texts(options.vocabulary);
  std::printf(options.json ? "["
                           : "| text | MB | tokens | encode, first MB/s | encode, best MB/s | decode MB/s |\n"
                             "|---|---|---|---|---|---|\n");
  const char* separator = "";
  for (const Text& text : texts) {
    if (text.bytes.empty()) {
      std::fprintf(stderr, "%s: cannot be read or is empty\n", text.name.c_str());
      return 1;
    }
    const double megabytes = double(text.bytes.size()) / 1e6;
    std::vector<int32_t> ids;
    const auto [first, best] = measure(options.seconds, [&] { ids = *tokenizer->encode(text.bytes); });
    const auto decoding = measure(options.seconds / 2, [&] {
      dw::Detokenizer detokenizer(*tokenizer);
      for (const int32_t id : ids) (void)detokenizer.append(id);
    });
    const char* format =
        options.json ? "%s{\"text\":\"%s\",\"megabytes\":%.3f,\"tokens\":%zu,\"encode_first_mb_s\":%.1f,"
                       "\"encode_best_mb_s\":%.1f,\"decode_mb_s\":%.1f}"
                     : "%s| %s | %.2f | %zu | %.1f | %.1f | %.1f |\n";
    std::printf(format, separator, text.name.c_str(), megabytes, ids.size(), megabytes / first,
                megabytes / best, megabytes / decoding.second);
    if (options.json) separator = ",\n";
  }
  if (options.json) std::printf("]\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--vocabulary" && i + 1 < argc) {
      options.vocabulary = argv[++i];
    } else if (argument == "--seconds" && i + 1 < argc) {
      options.seconds = std::atof(argv[++i]);
    } else if (argument.starts_with("-")) {
      std::fprintf(stderr, "usage: bench_tokenizer [--vocabulary DIR] [--seconds S] [--json] [FILE...]\n");
      return 2;
    } else {
      options.files.push_back(argument);
    }
  }
  return bench(options);
}
