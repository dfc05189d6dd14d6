"""`chat`: piped turns, its commands, and the keys of a terminal."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import unittest

from support import MODEL, PROGRAM, TIMEOUT, CliTest, environment, run

CHAT = ["chat", "-m", MODEL, "-n", "8", "--seed", "5", "--temp", "1"]
FOOTER = re.compile(rb"\[ prompt [\d.]+ t/s \| generation [\d.]+ t/s \]")


class PipedChat(CliTest):
    def test_each_line_is_a_turn(self):
        result = self.succeeds(*CHAT, stdin="Hello\n\nHow are you?\n")
        self.assertEqual(len(FOOTER.findall(result.stderr)), 2)
        self.assertNotIn(b"> ", result.stdout)
        self.assertNotIn(b"\x1b", result.stdout + result.stderr)

    def test_regen_with_the_same_seed_says_the_same(self):
        result = self.succeeds(*CHAT, "-q", stdin="Hello\n/save %s/a\n/regen\n/save %s/b\n" % (self.folder, self.folder))
        a, b = ((self.folder / name).read_bytes() for name in "ab")
        self.assertEqual(a, b)
        messages = json.loads(a)["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"])
        self.assertEqual(messages[0]["content"], "Hello")
        self.assertIn(b"saved", result.stderr)

    def test_a_saved_conversation_goes_on(self):
        path = self.folder / "talk.json"
        self.succeeds(*CHAT, "-sys", "Be brief.", stdin=f"One\nTwo\n/save {path}\n")
        shown = self.succeeds(*CHAT, stdin=f"/load {path}\nThree\n/save {path}2\n/show\n").stdout.decode()
        self.assertRegex(shown, r"turns +3")
        self.assertRegex(shown, r"system +Be brief\.")
        before = json.loads(path.read_text())["messages"]
        after = json.loads((self.folder / "talk.json2").read_text())["messages"]
        self.assertEqual(after[:len(before)], before)
        self.assertEqual(len(after), len(before) + 2)
        self.assertIn(f"after 2 turns".encode(), run(*CHAT, stdin=f"/load {path}\n").stderr)

    def test_a_turn_reuses_what_the_engine_has(self):
        shown = self.succeeds(*CHAT, "-q", stdin="Hello\n/regen\n/show\n").stdout.decode()
        self.assertRegex(shown, r"last turn +0 prompt tokens in .* \(\d+ more were known\), \d+ generated")

    def test_an_unknown_command_is_one_sentence(self):
        for line in ("/fly", "/set", "/set wings 2", "/set temp hot", "/set temp -3", "/read", "/load /no/such",
                     "/read /no/such", "/regen", "/set predict -2"):
            self.fails(1, *CHAT, stdin=line + "\n")
        self.fails(1, *CHAT, stdin="/load %s\n" % self.write("x.json", '{"messages": [{"role": "cat"}]}'),
                   says=["message 1", "role"][:1])
        self.fails(1, *CHAT, stdin="/load %s\n" % self.write("y.json", "no json"), says=["no JSON"])

    def test_settings_are_shown(self):
        lines = "/set temp 0.25\n/set top-k 3\n/set system You are brief.\n/set predict 2\n/show\n"
        shown = self.succeeds(*CHAT, stdin=lines).stdout.decode()
        for pattern in (r"temp +0\.25", r"top-k +3", r"system +You are brief\.", r"predict +2", r"context +0 of 2048"):
            self.assertRegex(shown, pattern)

    def test_help_names_the_commands(self):
        text = self.succeeds(*CHAT, stdin="/help\n").stdout.decode()
        for name in "/help /clear /regen /read /set /show /save /load /think /nothink /quit".split():
            self.assertIn(name, text)

    def test_messages_of_several_lines(self):
        path = self.folder / "m.json"
        self.succeeds(*CHAT, stdin=f'"""one\ntwo\n"""\n/save {path}\n')
        self.assertEqual(json.loads(path.read_text())["messages"][0]["content"], "one\ntwo\n")
        self.succeeds(*CHAT, stdin=f"one\\\ntwo\n/save {path}\n")
        self.assertEqual(json.loads(path.read_text())["messages"][0]["content"], "one\ntwo")

    def test_a_file_goes_before_the_next_message(self):
        note, path = self.write("note.txt", "A note."), self.folder / "m.json"
        self.succeeds(*CHAT, stdin=f"/read {note}\nWhat is it?\n/save {path}\n")
        self.assertEqual(json.loads(path.read_text())["messages"][0]["content"], "A note.\nWhat is it?")

    def test_a_full_context_leaves_the_conversation_usable(self):
        path = self.folder / "m.json"
        result = run(*CHAT, "-c", "64", stdin="x" * 100 + f"\nshort\n/save {path}\n/clear\nagain\n")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr.decode(), r"the conversation has 1\d\d tokens and the context only 64; /clear")
        self.assertEqual(json.loads(path.read_text())["messages"][0]["content"], "short")
        self.assertEqual(len(FOOTER.findall(result.stderr)), 2)

    def test_quit_ends_at_once(self):
        result = self.succeeds(*CHAT, stdin="/quit\nHello\n")
        self.assertEqual(len(FOOTER.findall(result.stderr)), 0)

    def test_thinking_reaches_the_template_and_is_kept_apart(self):
        template = self.write("t.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}"
                              "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}")
        path = self.folder / "m.json"
        flags = [*CHAT, "--chat-template-file", template]
        thought = self.succeeds(*flags, stdin=f"Hi\n/save {path}\n")
        self.assertTrue(thought.stdout.startswith(b"<think>"))
        self.assertIn("reasoning_content", json.loads(path.read_text())["messages"][1])
        plain = self.succeeds(*flags, stdin=f"/nothink\nHi\n/save {path}\n")
        self.assertNotIn(b"<think>", plain.stdout)
        self.assertNotIn("reasoning_content", json.loads(path.read_text())["messages"][1])
        self.assertNotIn(b"<think>", self.succeeds(*flags, "--no-think", stdin="Hi\n").stdout)

    def test_piped_input_leaves_no_history(self):
        self.succeeds(*CHAT, stdin="Hello\n", env=environment(XDG_STATE_HOME=str(self.folder)))
        self.assertEqual(os.listdir(self.folder), [])


class TerminalChat(CliTest):
    def start(self, *flags):
        master, slave = pty.openpty()
        env = environment(XDG_STATE_HOME=str(self.folder), TERM="xterm")
        self.process = subprocess.Popen([PROGRAM, *CHAT, *flags], stdin=slave, stdout=slave, stderr=slave, env=env,
                                        start_new_session=True)
        os.close(slave)
        self.master, self.seen = master, b""
        self.addCleanup(os.close, master)
        self.addCleanup(self.process.kill)

    def wait_until(self, condition):
        end = time.monotonic() + TIMEOUT
        while not condition():
            self.assertLess(time.monotonic(), end, self.seen)
            if select.select([self.master], [], [], 1)[0]:
                self.seen += os.read(self.master, 4096)

    def wait_for_prompt(self, count):
        """Keys typed before the prompt is shown would not reach the line editor."""
        self.wait_until(lambda: self.seen.count(b"> ") >= count)

    def type(self, keys):
        os.write(self.master, keys)

    def ends_with_status(self, status):
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < end:
            try:
                if select.select([self.master], [], [], 0.1)[0]:
                    self.seen += os.read(self.master, 4096)
            except OSError:  # the terminal is closed
                break
        self.assertEqual(self.process.wait(timeout=TIMEOUT), status, self.seen)

    def test_ctrl_c_clears_the_line_and_twice_quits(self):
        self.start()
        self.wait_for_prompt(1)
        self.type(b"/fly\x03")
        self.wait_for_prompt(2)
        self.assertIn(b"quits", self.seen)
        self.type(b"/show\r")
        self.wait_for_prompt(3)
        self.assertIn(b"repeat-last-n", self.seen)
        self.assertNotIn(b"no command", self.seen)
        self.type(b"\x03")
        self.wait_for_prompt(4)
        self.type(b"\x03")
        self.ends_with_status(0)

    def test_ctrl_d_quits_and_the_history_is_kept(self):
        self.start()
        self.wait_for_prompt(1)
        self.type("Grüße\r".encode())
        self.wait_until(lambda: self.seen.endswith(b"> ") and b"t/s ]" in self.seen)
        self.type(b"\x04")
        self.ends_with_status(0)
        history = self.folder / "deltawing" / "history"
        self.assertEqual(history.stat().st_mode & 0o77, 0)
        self.assertIn("Grüße", history.read_text())

    def test_ctrl_c_stops_an_answer_only(self):
        self.start("-n", "-1", "--device", "reference", "--logit-bias", "271=-100")
        self.wait_for_prompt(1)
        self.type(b"Hello\r")
        self.wait_until(lambda: len(self.seen.partition(b"Hello\r\n")[2]) > 0)
        os.kill(self.process.pid, signal.SIGINT)
        self.wait_until(lambda: self.seen.endswith(b"> ") and b"t/s ]" in self.seen)
        self.type(b"/quit\r")
        self.ends_with_status(0)


if __name__ == "__main__":
    unittest.main()
