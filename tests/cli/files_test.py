"""Model files that are absent, damaged or too large, and outputs that must not be half written."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

from support import MODEL, PROGRAM, TIMEOUT, CliTest, environment, with_context_length


class BadModels(CliTest):
    def refused(self, path, *says):
        for command in (["run", "-p", "x"], ["chat"], ["bench"]):
            self.fails(1, *command, "-m", path, says=says)

    def test_a_missing_file_is_named(self):
        self.refused("/no/such/model.gguf", "/no/such/model.gguf")

    def test_a_folder_is_refused(self):
        self.refused(self.folder, self.folder)

    def test_an_empty_file_is_refused(self):
        path = self.write("empty.gguf", b"")
        self.refused(path, path)

    def test_a_file_of_another_kind_is_refused(self):
        self.refused(self.write("text.gguf", b"Once upon a time there was a file. " * 100), "GGUF")

    def test_a_truncated_file_is_refused_wherever_it_ends(self):
        content = pathlib.Path(MODEL).read_bytes()
        for size in (3, 20, 500, 6000, len(content) // 2, len(content) - 1):
            path = self.write(f"short{size}.gguf", content[:size])
            self.fails(1, "run", "-p", "x", "-m", path)

    def test_another_architecture_is_named(self):
        content = pathlib.Path(MODEL).read_bytes()
        self.refused(self.write("other.gguf", content.replace(b"qwen3next", b"qwen9next", 1)), "qwen9next")

    def test_a_model_that_does_not_fit_is_refused_with_numbers_and_a_flag(self):
        path = self.write("long.gguf", with_context_length(2**30))
        flags = ["-m", path, "-c", "1000000000"]
        result = self.fails(1, "run", "-p", "x", *flags, says=["does not fit", "free", "KV cache", "-c"])
        self.assertRegex(result.stderr.decode(), r"needs [\d.]+ [KMGT]iB and [\d.]+ [KMGT]iB are free")

    def test_a_context_longer_than_the_models_is_refused(self):
        self.fails(1, "run", "-p", "x", "-m", MODEL, "-c", "5000", says=["5000", "2048"])


class KilledWriters(CliTest):
    def is_writing(self, process, source):
        """Whether the program holds a file of the folder open besides its source, be it one without a name."""
        folder = pathlib.Path("/proc", str(process.pid), "fd")
        try:
            targets = [os.readlink(link) for link in folder.iterdir()]
        except OSError:  # a file was closed, or the program has ended
            return False
        return any(t.startswith(str(self.folder) + "/") and t != source for t in targets)

    def kill_while_writing(self, output, source, *arguments):
        """Kills the program once it has begun to write; the final name must not exist."""
        process = subprocess.Popen([PROGRAM, *arguments], env=environment(), stdout=subprocess.DEVNULL)
        end = time.monotonic() + TIMEOUT
        while not self.is_writing(process, source) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        process.kill()
        self.assertEqual(process.wait(), -signal.SIGKILL, "it had ended before it could be killed")
        self.assertFalse((self.folder / output).exists())
        self.assertLessEqual(set(os.listdir(self.folder)), {pathlib.Path(source).name})

    def test_a_killed_synth_leaves_no_model(self):
        self.kill_while_writing("a.gguf", "", "synth", str(self.folder / "a.gguf"), "--preset", "tiny",
                                "--layers", "40", "--types", "F16", "-q", "-t", "1")

    def test_a_killed_quantize_leaves_no_model(self):
        source = str(self.folder / "f16.gguf")
        self.succeeds("synth", source, "--preset", "tiny", "--types", "F16", "-q")
        self.kill_while_writing("q.gguf", source, "quantize", source, str(self.folder / "q.gguf"), "--type", "Q2_K",
                                "-q", "-t", "1")


if __name__ == "__main__":
    unittest.main()
