"""What the tests of the command line share: running the program, and damaged copies of a tiny model."""
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["TEST_PROGRAM"]
DATA = pathlib.Path(os.environ["TEST_DATA"])
MODEL = str(DATA / "model" / "base.gguf")
COMMANDS = ["run", "chat", "inspect", "bench", "eval", "quantize", "synth", "doctor",
            "explain-name", "trace-info", "completion"]
TIMEOUT = 240  # seconds; sanitizer builds on busy machines are slow


def environment(**more):
    """The environment without flags of its own, and a home of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("DELTAWING_")}
    env.update(HOME="/nonexistent", NO_COLOR="1")
    env.pop("XDG_STATE_HOME", None)
    env.update(more)
    return env


def run(*arguments, stdin=b"", env=None):
    """Runs the program; the result has returncode, and stdout and stderr as bytes."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    return subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=TIMEOUT,
                          env=env or environment())


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def succeeds(self, *arguments, **keywords):
        result = run(*arguments, **keywords)
        self.assertEqual(result.returncode, 0, result.stderr.decode(errors="replace"))
        return result

    def fails(self, status, *arguments, says=(), **keywords):
        """The program ends with this status and one sentence on stderr that holds the words."""
        result = run(*arguments, **keywords)
        message = result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, status, message)
        lines = message.strip().splitlines()
        self.assertEqual(len(lines), 1, message)
        self.assertTrue(lines[0].startswith("deltawing"), message)
        for word in says:
            self.assertIn(str(word), message)
        return result


def with_context_length(length):
    """The tiny model, made for another context."""
    content = bytearray(pathlib.Path(MODEL).read_bytes())
    key = b"qwen3next.context_length"
    place = content.index(key) + len(key) + 4  # after the value's type
    content[place:place + 4] = struct.pack("<I", length)
    return bytes(content)
