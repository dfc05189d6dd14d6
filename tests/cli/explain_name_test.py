"""explain-name: what it says of names from the command line and from standard input."""
import json
import unittest

from support import CliTest

TENSILE = "Cijk_Alik_Bljk_SB_MT64x32x16_SN_GSU2_GSUASB_ISA906_K1_KLA_TT8_4_WG8_8_2_WGM1"


class ExplainName(CliTest):
    def test_a_tensile_name_is_taken_apart(self):
        text = self.succeeds("explain-name", TENSILE).stdout.decode()
        for words in ("rocBLAS", "GEMM, A transposed and B not (TN), f32", "GlobalSplitU", "assembly for gfx906",
                      "WG 8_8_2", "B: beta times C is added"):
            self.assertIn(words, text)

    def test_names_from_standard_input_as_json(self):
        names = [TENSILE, "void mul_mat_q<(ggml_type)12, 128, false>(char const*)", "nobody_knows"]
        text = "\n".join(names) + "\n\n"
        answer = json.loads(self.succeeds("explain-name", "--json", "-", stdin=text).stdout)
        self.assertEqual([row["name"] for row in answer], names)
        self.assertEqual([row["category"] for row in answer], ["GEMM", "quantised matmul", "other"])
        self.assertIn({"key": "type", "value": "Q4_K", "meaning": ""}, answer[1]["details"])

    def test_brief_gives_a_line_a_name(self):
        text = self.succeeds("explain-name", "--brief", "-", stdin="pad_f32\nMemset (Device)\r\n").stdout.decode()
        self.assertEqual([line.split("\t")[0] for line in text.splitlines()], ["memory", "memory"])

    def test_bytes_that_are_no_text_do_no_harm(self):
        result = self.succeeds("explain-name", "--json", "-", stdin=bytes(range(1, 256)) * 40)
        self.assertTrue(all(row["family"] for row in json.loads(result.stdout)))

    def test_bad_usage_and_empty_input(self):
        self.fails(2, "explain-name", says=["name"])
        self.fails(1, "explain-name", "-", stdin="", says=["empty"])


if __name__ == "__main__":
    unittest.main()
