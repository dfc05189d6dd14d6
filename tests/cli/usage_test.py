"""Help, bad usage, configuration: what the program does before it runs anything."""
import json
import shutil
import subprocess
import unittest

from support import COMMANDS, MODEL, CliTest, environment, run


class Help(CliTest):
    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            text = self.succeeds(command, "--help").stdout.decode()
            self.assertIn("Example", text, command)
            self.assertIn("deltawing " + command, text)

    def test_help_names_every_command(self):
        text = self.succeeds("--help").stdout.decode()
        for command in COMMANDS:
            self.assertIn(command, text)

    def test_help_command_is_the_same_as_the_flag(self):
        self.assertEqual(self.succeeds("help", "run").stdout, self.succeeds("run", "--help").stdout)
        self.assertEqual(self.succeeds("help").stdout, self.succeeds("--help").stdout)

    def test_version_is_printed(self):
        self.assertRegex(self.succeeds("--version").stdout.decode(), r"^\d+\.\d+\.\d+\n$")


class BadUsage(CliTest):
    def test_bad_usage_is_status_2_and_one_sentence(self):
        self.fails(2, says=["--help"])
        self.fails(2, "fly", says=["fly"])
        self.fails(2, "run", says=["--model"])
        self.fails(2, "run", "-m", MODEL, "--wings", says=["--wings", "run --help"])
        self.fails(2, "run", "-m", MODEL, "-n", "many", says=["many"])
        self.fails(2, "run", "-m", MODEL, "-c", "-5", says=["-5"])
        self.fails(2, "run", "-m", MODEL, "-t", "-1", says=["-1"])
        self.fails(2, "run", "-m", MODEL, "--chunk", "7", says=["7"])
        self.fails(2, "completion", "tcsh", says=["tcsh"])

    def test_the_last_of_several_values_counts(self):
        result = self.succeeds("run", "-m", MODEL, "-p", "x", "-q", "--json", "--ignore-eos", "-n", "5", "-n", "2")
        self.assertEqual(json.loads(result.stdout)["generated_tokens"], 2)

    def test_values_the_engine_refuses_are_named(self):
        self.fails(1, "run", "-m", MODEL, "-p", "x", "--temp", "-1", says=["temperature"])
        self.fails(1, "run", "-m", MODEL, "-p", "x", "--cpu-level", "mmx", says=["mmx"])
        self.fails(1, "run", "-m", MODEL, "-p", "x", "-ctk", "q1", says=["q1"])
        self.fails(1, "run", "-m", MODEL, "-p", "x", "--logit-bias", "5", says=["TOKEN_ID=VALUE"])
        self.fails(1, "run", "-m", MODEL, "-p", "x", "-f", "y", says=["not both"])

    def test_flags_of_gpu_builds_are_accepted_with_a_warning(self):
        for flags in (["-ngl", "99"], ["--n-cpu-moe", "10"], ["-ts", "1,1"], ["-fa", "on"], ["-fa"]):
            result = self.succeeds("run", "-m", MODEL, "-p", "x", "-n", "1", "-q", *flags)
            self.assertIn(b"no effect", result.stderr, flags)
            self.assertEqual(result.stderr.count(b"warning"), 1, flags)


class Configuration(CliTest):
    def context(self, *arguments, **variables):
        result = self.succeeds("doctor", "-m", MODEL, "--json", *arguments, env=environment(**variables))
        return json.loads(result.stdout)["model"]["context_tokens"]

    def test_command_line_beats_environment_beats_file(self):
        config = self.write("dw.ini", "ctx-size=100\n[doctor]\nctx-size=101\n[run]\nctx-size=5\n")
        self.assertEqual(self.context(), 2048)
        self.assertEqual(self.context("--config", config), 101)
        self.assertEqual(self.context(DELTAWING_CONFIG=config), 101)
        self.assertEqual(self.context("--config", config, DELTAWING_CTX_SIZE="102"), 102)
        self.assertEqual(self.context("--config", config, "-c", "103", DELTAWING_CTX_SIZE="102"), 103)
        self.assertEqual(self.context("-c103", DELTAWING_CTX_SIZE="102"), 103)

    def test_boolean_flags_are_read_from_the_environment(self):
        quiet = ["run", "-m", MODEL, "-p", "x", "-n", "1"]
        self.assertIn(b"t/s", self.succeeds(*quiet).stderr)
        self.assertEqual(self.succeeds(*quiet, env=environment(DELTAWING_QUIET="1")).stderr, b"")
        self.assertIn(b"t/s", self.succeeds(*quiet, env=environment(DELTAWING_QUIET="0")).stderr)
        self.fails(2, *quiet, env=environment(DELTAWING_QUIET="banana"), says=["banana"])

    def test_the_model_may_come_from_the_environment(self):
        self.succeeds("run", "-p", "x", "-n", "1", env=environment(DELTAWING_MODEL=MODEL))

    def test_bad_configuration_is_status_2(self):
        self.fails(2, "--config", "/no/such.ini", "doctor", says=[])
        self.fails(2, "doctor", "--config", "/no/such.ini", says=["/no/such.ini"])
        self.fails(2, "doctor", "--config", self.write("a.ini", "wings=2\n"), says=["--wings"])
        self.fails(2, "doctor", "--config", self.write("b.ini", "[fly]\nhigh=2\n"), says=["fly"])
        self.fails(2, "doctor", "--config", self.write("c.ini", "ctx-size=much\n"), says=["much"])


class Completion(CliTest):
    def complete(self, *words):
        """What bash would offer for the last word."""
        script = self.succeeds("completion", "bash").stdout.decode()
        line = " ".join(f"'{word}'" for word in words)
        script += f"\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _deltawing; echo \"${{COMPREPLY[@]}}\"\n"
        result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=self.folder, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.split()

    def test_bash_script_is_valid_and_completes(self):
        script = self.write("script", self.succeeds("completion", "bash").stdout)
        self.assertEqual(subprocess.run(["bash", "-n", script]).returncode, 0)
        self.assertEqual(self.complete("deltawing", "r"), ["run"])
        self.assertEqual(set(self.complete("deltawing", "")) & set(COMMANDS), set(COMMANDS))
        self.assertEqual(self.complete("deltawing", "run", "--top"), ["--top-k", "--top-p"])
        self.write("a_model.gguf", "x")
        self.assertEqual(self.complete("deltawing", "run", "-m", "a_m"), ["a_model.gguf"])
        self.assertEqual(self.complete("deltawing", "run", "--top-k", ""), [])
        self.assertEqual(self.complete("deltawing", "help", "do"), ["doctor"])

    def test_zsh_and_fish_scripts_name_commands_and_flags(self):
        for shell in ("zsh", "fish"):
            script = self.succeeds("completion", shell).stdout.decode()
            for command in COMMANDS:
                self.assertIn(command, script)
            self.assertIn("ctx-size", script)
            self.assertEqual(script.count("'") % 2, 0)
            if shutil.which(shell):
                path = self.write(shell, script)
                self.assertEqual(subprocess.run([shell, "-n", path]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
