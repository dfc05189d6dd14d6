"""`run`, `bench`, `eval`, `inspect` and `doctor` on a tiny model."""
import json
import pathlib
import signal
import subprocess
import unittest

from support import MODEL, PROGRAM, TIMEOUT, CliTest, environment

RUN = ["run", "-m", MODEL, "-n", "12", "-q", "--ignore-eos"]


class Prompts(CliTest):
    def test_an_empty_prompt_is_refused(self):
        self.fails(1, *RUN, stdin=b"", says=["empty"])
        self.fails(1, *RUN, "-f", self.write("empty.txt", b""), says=["empty"])
        self.fails(1, *RUN, "-f", "/no/such/prompt", says=["/no/such/prompt"])

    def test_prompt_file_and_standard_input_are_the_same(self):
        expected = self.succeeds(*RUN, "--temp", "0", "-p", "Hello there").stdout
        self.assertGreater(len(expected), 1)
        file = self.write("prompt.txt", "Hello there")
        self.assertEqual(self.succeeds(*RUN, "--temp", "0", "-f", file).stdout, expected)
        self.assertEqual(self.succeeds(*RUN, "--temp", "0", stdin="Hello there").stdout, expected)
        self.assertEqual(self.succeeds(*RUN, "--temp", "0", "-f", "-", stdin="Hello there").stdout, expected)

    def test_a_prompt_that_is_not_utf8_keeps_its_bytes(self):
        prompts = [b"caf\xe9 \xff\xfe \x80 end", b"\xc3", b"a\x00b"]
        for raw in ([], ["--raw"]):
            counts = []
            for prompt in prompts:
                file = self.write("prompt.bin", prompt)
                result = self.succeeds(*RUN, *raw, "--json", "-f", file)
                counts.append(json.loads(result.stdout)["prompt_tokens"])
            if raw:
                self.assertEqual(counts[1:], [1, 3])  # a token a byte

    def test_special_tokens_in_raw_text_are_text(self):
        def count(*flags):
            result = self.succeeds(*RUN, "--json", "-p", "<|im_end|>", *flags)
            return json.loads(result.stdout)["prompt_tokens"]
        self.assertGreater(count("--raw"), 5)

    def test_the_chat_template_is_applied_unless_raw(self):
        template = self.write("plain.jinja", "{{ messages[-1].content }}")
        raw = self.succeeds(*RUN, "--temp", "0", "--raw", "-p", "Hello").stdout
        self.assertEqual(self.succeeds(*RUN, "--temp", "0", "--chat-template-file", template, "-p", "Hello").stdout, raw)
        self.fails(1, *RUN, "-p", "x", "--chat-template-file", self.write("bad.jinja", "{% if %}"), says=["bad.jinja"])

    def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(self):
        self.fails(1, *RUN, "--raw", "-c", "64", "-p", "x" * 100, says=["100", "64", "-c"])

    def test_a_full_context_ends_the_answer_and_says_so(self):
        result = self.succeeds("run", "-m", MODEL, "-q", "--ignore-eos", "--raw", "-c", "32", "-p", "abcdef", "--json")
        answer = json.loads(result.stdout)
        self.assertEqual(answer["finish_reason"], "context")
        self.assertEqual(answer["generated_tokens"], 26)
        self.assertIn(b"32 tokens is full", result.stderr)


class Answers(CliTest):
    def answer(self, *flags):
        return self.succeeds(*RUN, "-p", "Once upon a time", "--temp", "1", "--top-k", "0", *flags).stdout

    def test_the_seed_decides_whatever_the_threads(self):
        expected = self.answer("--seed", "7", "-t", "1")
        self.assertEqual(self.answer("--seed", "7", "-t", "2"), expected)
        self.assertEqual(self.answer("--seed", "7", "-t", "2", "--no-mmap"), expected)
        self.assertEqual(self.answer("--seed", "7", "--prefetch"), expected)
        self.assertNotEqual(self.answer("--seed", "8"), expected)

    def test_max_tokens_is_exact(self):
        for count in (0, 1, 5):
            result = self.succeeds("run", "-m", MODEL, "-q", "--ignore-eos", "-p", "x", "-n", count, "--json")
            self.assertEqual(json.loads(result.stdout)["generated_tokens"], count)

    def test_json_holds_the_text_and_logprobs(self):
        result = self.succeeds(*RUN, "-p", "Hi", "--json", "--logprobs", "3", "--temp", "0")
        answer = json.loads(result.stdout)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(len(answer["logprobs"]), 12)
        for entry in answer["logprobs"]:
            self.assertEqual(entry["id"], entry["top"][0]["id"])
            self.assertEqual(len(entry["top"]), 3)

    def test_a_stop_string_is_not_shown(self):
        whole = self.answer("--seed", "7", "--json")
        text = json.loads(whole)["text"]
        stop = text[len(text) // 2:][:2]
        stopped = json.loads(self.answer("--seed", "7", "--json", "--stop", stop))
        self.assertEqual(stopped["text"], text[:text.index(stop)])
        self.assertEqual(stopped["finish_reason"], "stop_string")

    def test_the_footer_goes_to_stderr(self):
        result = self.succeeds("run", "-m", MODEL, "-p", "x", "-n", "3", "--ignore-eos")
        self.assertRegex(result.stderr.decode(), r"\[ prompt [\d.]+ t/s \| generation [\d.]+ t/s \]")
        self.assertNotIn(b"t/s", result.stdout)

    def test_ctrl_c_stops_with_what_was_said(self):
        process = subprocess.Popen([PROGRAM, "run", "-m", MODEL, "-p", "x", "--ignore-eos", "--device", "reference"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   env=environment())
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130, errors)
        self.assertEqual(len(first), 1)
        self.assertTrue(rest.endswith(b"\n"))
        self.assertIn(b"generation", errors)


class OtherCommands(CliTest):
    def test_bench_prints_json(self):
        result = self.succeeds("bench", "-m", MODEL, "-pp", "16", "-tg", "4", "-r", "2", "--json")
        names = [test["test"] for test in json.loads(result.stdout)["tests"]]
        self.assertEqual(names, ["pp16", "tg4"])

    def test_bench_of_several_sequences(self):
        result = self.succeeds("bench", "-m", MODEL, "-pp", "0", "-tg", "4", "-npl", "1,3", "-r", "1", "--json")
        self.assertEqual([test["test"] for test in json.loads(result.stdout)["tests"]], ["tg4", "tg4 x3"])

    def test_bench_of_kernels_needs_a_gpu(self):
        self.fails(1, "bench", "-m", MODEL, "-pp", "16", "--kernels", "--device", "cpu", says=["--kernels", "GPU", "cpu"])

    def test_eval_prints_json(self):
        text = self.write("text.txt", "the rain in the north and the snow on the roof " * 10)
        flags = ["eval", "-m", MODEL, "-f", text, "-w", "64", "--json"]
        result = json.loads(self.succeeds(*flags, "--save", self.folder / "base").stdout)
        self.assertGreater(result["perplexity"], 1)
        again = json.loads(self.succeeds(*flags, "--against", self.folder / "base").stdout)
        self.assertEqual(again["perplexity"], result["perplexity"])
        self.assertLess(again["against"]["kl_max"], 1e-6)

    def test_inspect_prints_json(self):
        self.assertTrue(json.loads(self.succeeds("inspect", MODEL, "--json").stdout))

    def test_doctor_describes_machine_and_model(self):
        report = json.loads(self.succeeds("doctor", "-m", MODEL, "--json").stdout)
        self.assertGreater(report["machine"]["memory_bytes"], report["machine"]["free_memory_bytes"])
        self.assertGreater(report["machine"]["read_bandwidth_gbs"], 0)
        self.assertTrue(report["model"]["fits"])
        self.assertGreater(report["model"]["tokens_per_second"], 0)
        self.assertEqual(report["model"]["mapped_bytes"],
                         sum(p["bytes"] for p in report["model"]["parts"] if p["mapped"]))
        text = self.succeeds("doctor", "-m", MODEL).stdout.decode()
        self.assertIn("GPU  ", text)
        self.assertIn("fits", text)

    def test_doctor_without_a_model_describes_the_machine(self):
        self.assertNotIn("model", json.loads(self.succeeds("doctor", "--json").stdout))

    def test_doctor_fails_where_the_model_would_be_refused(self):
        from support import run, with_context_length
        path = self.write("long.gguf", with_context_length(2**30))
        for flags, says in ((["-m", path, "-c", "1000000000"], "does not fit"), (["-m", "/no/model"], "/no/model")):
            result = run("doctor", "--json", *flags)
            self.assertEqual(result.returncode, 1)
            report = json.loads(result.stdout)["model"]
            self.assertFalse(report["fits"])
            self.assertIn(says, report["refusal"])
        self.assertTrue(pathlib.Path(path).exists())


if __name__ == "__main__":
    unittest.main()
