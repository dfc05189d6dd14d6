"""`trace-info` on traces of several formats."""
import json
import unittest

from support import DATA, CliTest

TRACES = DATA / "profile"


class TraceInfo(CliTest):
    def test_text_names_format_figures_and_kernels(self):
        text = self.succeeds("trace-info", TRACES / "kineto.json").stdout.decode()
        for words in ("Kineto JSON", "CUDA 12.4", "NVIDIA H100 (sm_90)", "4 of 3 names", "(82.50 %)", "mul_mat_q", "warning: 1 of 4"):
            self.assertIn(words, text)

    def test_json_has_the_same_figures_for_several_files(self):
        files = [TRACES / name for name in ("rocprof.csv", "rocpd_3.db", "nsys.sqlite.gz", "trace.pftrace")]
        for found in json.loads(self.succeeds("trace-info", "--json", *files).stdout):
            self.assertEqual((found["kernels"], found["names"]), (4, 3), found["file"])
            self.assertEqual((found["total_ns"], found["busy_ns"], found["span_ns"]), (7100, 6600, 8000), found["file"])

    def test_files_of_sums_have_no_span(self):
        found = json.loads(self.succeeds("trace-info", "--json", TRACES / "rocprof_stats.csv").stdout)[0]
        self.assertEqual(found["total_ns"], 7100)
        self.assertIsNone(found["busy_ns"])

    def test_what_is_no_trace_is_refused(self):
        self.fails(1, "trace-info", self.write("x.csv", "a,b\n1,2\n"), says=["x.csv", "no trace"])
        self.fails(1, "trace-info", "/nonexistent/file", says=["/nonexistent/file"])
        self.fails(2, "trace-info", says=["files"])


if __name__ == "__main__":
    unittest.main()
