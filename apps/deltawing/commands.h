// The sub-commands of deltawing, one file each. A command adds itself to the app; when it is chosen its
// callback runs and sets exit_status: 0 done, 1 an error (said on stderr in one sentence), 2 bad usage.
#pragma once

namespace CLI {
class App;
}

namespace dw {

void add_run_command(CLI::App& app, int& exit_status);
void add_chat_command(CLI::App& app, int& exit_status);
void add_inspect_command(CLI::App& app, int& exit_status);
void add_bench_command(CLI::App& app, int& exit_status);
void add_eval_command(CLI::App& app, int& exit_status);
void add_quantize_command(CLI::App& app, int& exit_status);
void add_synth_command(CLI::App& app, int& exit_status);
void add_doctor_command(CLI::App& app, int& exit_status);
void add_explain_name_command(CLI::App& app, int& exit_status);
void add_trace_info_command(CLI::App& app, int& exit_status);
void add_completion_command(CLI::App& app, int& exit_status);

}  // namespace dw
