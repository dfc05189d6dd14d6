// What happens to the command line before the parser sees it: `help COMMAND`, the short flags of several
// letters, and the flags of a --config file. A flag on the command line wins over its environment variable,
// which wins over the file.
#pragma once

#include <string>
#include <vector>

#include "base/expected.h"

namespace CLI {
class App;
}

namespace dw {

// "-ub" and the other multi-letter flags with one dash become their long names; `help run` becomes
// `run --help`.
std::vector<std::string> expand_arguments(int argc, char** argv);

const CLI::App* find_command(const CLI::App& app, const std::string& name);  // null: there is none

// Takes --config FILE (or DELTAWING_CONFIG) out of the arguments and appends what the file says to them,
// where neither the arguments nor the environment say it. The file is INI or TOML: keys are long flags; those
// in a section [COMMAND] are for that command, the others for every command that has them. Errors: the file
// cannot be read, a key that is no flag.
Expected<void> apply_config(const CLI::App& app, std::vector<std::string>& arguments);

}  // namespace dw
