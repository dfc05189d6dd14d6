// One small run in every format gives the same figures; damaged files give what could be read and say so.
// The fixtures come from tools/oracle/make_profile_fixtures.py.
#include "profile/ingest/ingest.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "profile/ingest/number.h"
#include "profile/ingest/summary.h"

namespace dw::profile {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kBegin = 1'712'195'495'505'000'000;
const std::string kFolder = DW_TEST_DATA "/profile/";

Trace read(const std::string& name) {
  auto trace = read_trace(kFolder + name);
  EXPECT_TRUE(trace) << (trace ? "" : trace.error().message);
  return trace ? std::move(*trace) : Trace();
}

std::string all_warnings(const Trace& trace) {
  std::string all;
  for (const std::string& warning : trace.warnings) all += warning + "\n";
  return all;
}

struct Case {
  const char* file;
  TraceFormat format;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.file;
}

// ---- traces with times

class SameRun : public testing::TestWithParam<Case> {};

TEST_P(SameRun, HasTheSameFigures) {
  const Trace trace = read(GetParam().file);
  EXPECT_EQ(format_name(trace.format), format_name(GetParam().format));
  const TraceSummary s = summarize_trace(trace);
  EXPECT_EQ(s.kernels, 4);
  EXPECT_EQ(s.names, 3);
  EXPECT_EQ(s.total_ns, 7100);
  EXPECT_EQ(s.busy_ns, 6600);
  EXPECT_EQ(s.span_ns, 8000);
  ASSERT_EQ(s.kernels_by_time.size(), 3u);
  const StatRow& top = s.kernels_by_time[0];
  EXPECT_EQ(trace.names[top.name], "void mul_mat_q<(ggml_type)2, 128, false>(char const*, int)");
  EXPECT_EQ(top.calls, 2);
  EXPECT_EQ(top.total_ns, 5000);
  EXPECT_EQ(top.min_ns, 2000);
  EXPECT_EQ(top.max_ns, 3000);
  EXPECT_EQ(trace.names[s.kernels_by_time[2].name], "operator\"\" _x(int, \"a\", char)");
}

TEST_P(SameRun, HasExactTimesAndGridsInBlocks) {
  const Trace trace = read(GetParam().file);
  std::vector<const TraceEvent*> kernels;
  for (const TraceEvent& event : trace.events)
    if (event.kind == EventKind::kKernel) kernels.push_back(&event);
  ASSERT_EQ(kernels.size(), 4u);
  EXPECT_EQ(kernels[0]->start_ns, kBegin + 1000);
  EXPECT_EQ(kernels[3]->end_ns, kBegin + 9000);
  if (trace.format == TraceFormat::kRpd) return;  // the fixture has no launch records
  const Launch& launch = trace.launches[kernels[0]->launch];
  EXPECT_EQ(launch.grid[0], 4u);
  EXPECT_EQ(launch.block[0], 64u);
  if (trace.format == TraceFormat::kPerfetto) return;  // knows neither registers nor memory
  EXPECT_EQ(launch.shared_bytes, 512);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, SameRun,
    testing::Values(
        Case{"rocprof.csv", TraceFormat::kRocprofCsv}, Case{"rocprof_pmc.csv", TraceFormat::kRocprofCsv},
        Case{"rocprofv2.csv", TraceFormat::kRocprofv2Csv},
        Case{"rocprofv3_18.csv", TraceFormat::kRocprofv3Csv},
        Case{"rocprofv3_22.csv", TraceFormat::kRocprofv3Csv},
        Case{"rocprofv3_22_crlf.csv", TraceFormat::kRocprofv3Csv},
        Case{"rocprofv3_22.csv.gz", TraceFormat::kRocprofv3Csv},
        Case{"rocprofv3_22.csv.zst", TraceFormat::kRocprofv3Csv},
        Case{"rocpd_converted.csv", TraceFormat::kRocprofv3Csv},
        Case{"counters.csv", TraceFormat::kRocprofv3Csv}, Case{"nsys_trace.csv", TraceFormat::kNsysTraceCsv},
        Case{"kineto.json", TraceFormat::kKineto}, Case{"rocprofv3.json", TraceFormat::kRocprofv3Json},
        Case{"rocpd_3.db", TraceFormat::kRocpd}, Case{"rocpd_plain.db", TraceFormat::kRocpd},
        Case{"rocpd_4.db", TraceFormat::kRocpd}, Case{"rocpd_view.db", TraceFormat::kRocpd},
        Case{"nsys.sqlite", TraceFormat::kNsysSqlite}, Case{"nsys.sqlite.gz", TraceFormat::kNsysSqlite},
        Case{"trace.rpd", TraceFormat::kRpd}, Case{"trace.pftrace", TraceFormat::kPerfetto}));

// ---- files of sums

class SameSums : public testing::TestWithParam<Case> {};

TEST_P(SameSums, HaveTheSameFigures) {
  const Trace trace = read(GetParam().file);
  EXPECT_EQ(format_name(trace.format), format_name(GetParam().format));
  EXPECT_FALSE(trace.has_times());
  const TraceSummary s = summarize_trace(trace);
  EXPECT_EQ(s.kernels, 4);
  EXPECT_EQ(s.names, 3);
  EXPECT_EQ(s.total_ns, 7100);
  ASSERT_EQ(s.kernels_by_time.size(), 3u);
  EXPECT_EQ(trace.names[s.kernels_by_time[0].name],
            "void mul_mat_q<(ggml_type)2, 128, false>(char const*, int)");
  EXPECT_EQ(trace.names[s.kernels_by_time[2].name], "operator\"\" _x(int, \"a\", char)");
}

INSTANTIATE_TEST_SUITE_P(Formats, SameSums,
                         testing::Values(Case{"rocprof_stats.csv", TraceFormat::kRocprofStatsCsv},
                                         Case{"rocprofv3_stats.csv", TraceFormat::kRocprofv3StatsCsv},
                                         Case{"nsys_stats.csv", TraceFormat::kNsysStatsCsv},
                                         Case{"ncu.csv", TraceFormat::kNcuCsv}));

TEST(Ingest, LeavesApiCallsOutOfStatistics) {
  EXPECT_THAT(all_warnings(read("rocprofv3_stats.csv")), HasSubstr("API call"));
}

// ---- details

TEST(Ingest, KnowsDevicesAndGraphs) {
  const Trace kineto = read("kineto.json");
  ASSERT_EQ(kineto.devices.size(), 1u);
  EXPECT_EQ(kineto.devices[0].architecture, "sm_90");
  EXPECT_EQ(kineto.devices[0].units, 132);
  EXPECT_THAT(kineto.tool, HasSubstr("CUDA 12.4"));
  EXPECT_TRUE(kineto.events[2].in_graph);
  EXPECT_FALSE(kineto.events[1].in_graph);
  EXPECT_THAT(all_warnings(kineto), HasSubstr("1 of 4 kernels have no grid"));
  const Trace nsys = read("nsys.sqlite");
  EXPECT_TRUE(nsys.events[0].in_graph);
  EXPECT_EQ(nsys.events[0].correlation, nsys.events[3].correlation);
  EXPECT_THAT(nsys.tool, HasSubstr("3.11.0"));
  const Trace json = read("rocprofv3.json");
  ASSERT_EQ(json.devices.size(), 1u);
  EXPECT_EQ(json.devices[0].architecture, "gfx906");
  EXPECT_EQ(json.lanes[json.events[0].lane].device, json.devices[0].id);
  const Trace rocpd = read("rocpd_4.db");
  ASSERT_EQ(rocpd.devices.size(), 1u);
  EXPECT_EQ(rocpd.devices[0].architecture, "gfx906");
  EXPECT_EQ(rocpd.lanes[rocpd.events[0].lane].device, rocpd.devices[0].id);
  EXPECT_THAT(rocpd.tool, HasSubstr("4.1.0"));
}

TEST(Ingest, CountsCopiesApart) {
  const TraceSummary csv = summarize_trace(read("nsys_trace.csv"));
  EXPECT_EQ(csv.copies, 1);
  const Trace rpd = read("trace.rpd");
  EXPECT_EQ(summarize_trace(rpd).copies, 1);
  EXPECT_THAT(all_warnings(rpd), HasSubstr("Barrier"));
}

TEST(Ingest, ReadsMatrixProductsOfLogs) {
  const Trace trace = read("library.log");
  ASSERT_EQ(trace.gemms.size(), 3u);
  const GemmCall& first = trace.gemms[0];
  EXPECT_EQ(first.function, "gemm_ex");
  EXPECT_EQ(first.trans_a, 'T');
  EXPECT_EQ(first.trans_b, 'N');
  EXPECT_EQ(first.m, 256);
  EXPECT_EQ(first.n, 64);
  EXPECT_EQ(first.k, 128);
  EXPECT_EQ(first.type_a, "f16_r");
  EXPECT_EQ(trace.names[first.kernel], "Cijk_Ailk_Bljk_SB_MT16x16x8_SN_ISA000");
  EXPECT_EQ(trace.gemms[1].batch, 3);
  EXPECT_EQ(trace.gemms[1].solution, 77);
  EXPECT_EQ(trace.gemms[1].kernel, 0u);  // the next kernel is none of the library's
  EXPECT_EQ(trace.gemms[2].calls, 12);
  EXPECT_EQ(summarize_trace(trace).kernels, 2);
}

// ---- damaged and hostile files

TEST(Damaged, CutFilesGiveWhatIsThere) {
  const struct {
    const char* file;
    int64_t least;
    const char* says;
  } cases[] = {{"rocprofv3_22_cut.csv", 3, "ends inside line 5"},
               {"rocprofv3_22_cut.csv.gz", 4, "gzip data end early"},
               {"rocprofv3_22_cut.csv.zst", 4, "zstd data end early"},
               {"kineto_cut.json", 3, "ends inside a value"},
               {"trace_cut.pftrace", 3, "ends inside the packet"}};
  for (const auto& c : cases) {
    const Trace trace = read(c.file);
    EXPECT_GE(summarize_trace(trace).kernels, c.least) << c.file;
    EXPECT_THAT(all_warnings(trace), HasSubstr(c.says)) << c.file;
  }
  const Trace log = read("library_cut.log");
  EXPECT_EQ(log.gemms.size(), 2u);
  EXPECT_THAT(all_warnings(log), HasSubstr("cut off"));
}

TEST(Damaged, CutDatabasesSaySo) {
  const auto trace = read_trace(kFolder + "nsys_cut.sqlite");
  if (!trace)
    EXPECT_THAT(trace.error().message, HasSubstr("malformed"));
  else
    EXPECT_THAT(all_warnings(*trace), HasSubstr("malformed"));
}

TEST(Damaged, MissingTablesAreNamed) {
  const Trace trace = read("nsys_empty.sqlite");
  EXPECT_THAT(all_warnings(trace), HasSubstr("no table of kernels"));
  EXPECT_THAT(all_warnings(trace), HasSubstr("--cuda-graph-trace=node"));
}

TEST(Hostile, BadRowsAreCountedNotDropped) {
  const Trace trace = read("hostile.csv");
  const TraceSummary s = summarize_trace(trace);
  EXPECT_EQ(s.kernels, 2);
  EXPECT_EQ(s.total_ns, 300);
  const std::string warnings = all_warnings(trace);
  EXPECT_THAT(warnings, HasSubstr("ends before it starts"));
  EXPECT_THAT(warnings, HasSubstr("no times"));
  EXPECT_THAT(warnings, HasSubstr("no numbers"));
  EXPECT_THAT(warnings, HasSubstr("line 3"));
}

TEST(Hostile, JsonAndPerfettoStopAtTheDamage) {
  const Trace json = read("kineto_hostile.json");
  EXPECT_EQ(summarize_trace(json).kernels, 1);
  EXPECT_THAT(all_warnings(json), HasSubstr("byte"));
  const Trace perfetto = read("hostile.pftrace");
  EXPECT_THAT(all_warnings(perfetto), HasSubstr("no packet"));
  EXPECT_EQ(read("library_hostile.log").gemms.size(), 3u);
}

TEST(Hostile, AnEndlessViewIsStopped) {
  EXPECT_THAT(all_warnings(read("rocpd_endless.db")), HasSubstr("interrupted"));
}

TEST(Hostile, EveryPrefixOfEveryFixtureIsHandled) {
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.starts_with("SQLite")) continue;
    const size_t step = bytes.size() / 400 + 1;
    for (size_t size = 0; size < bytes.size(); size += step) {
      const auto trace = read_trace_bytes(std::string_view(bytes).substr(0, size), "prefix");
      if (!trace) {
        EXPECT_THAT(trace.error().message, HasSubstr("prefix"));
      }
    }
  }
}

TEST(Hostile, OtherFilesAreRefusedWithAReason) {
  for (const std::string_view text : {"hello\nworld\n", "{\"a\": 1}", "[1, 2]",
                                      "\x7f"
                                      "ELF\1\1\1",
                                      "\n\n\n", "{", "[{}]x"}) {
    const auto trace = read_trace_bytes(text, "it");
    if (trace)
      EXPECT_EQ(trace->events.size(), 0u) << text;
    else
      EXPECT_THAT(trace.error().message, HasSubstr("it is no trace")) << text;
  }
  EXPECT_FALSE(read_trace_bytes("", "it"));
  EXPECT_FALSE(read_trace(kFolder + "does-not-exist"));
  EXPECT_FALSE(read_trace(kFolder));
}

// ---- numbers

TEST(Number, DecimalsAreExact) {
  EXPECT_EQ(parse_scaled("1712195495505582.988", 3), 1712195495505582988);
  EXPECT_EQ(parse_scaled("0.0005", 3), 1);
  EXPECT_EQ(parse_scaled("-1.5", 0), -2);
  EXPECT_EQ(parse_scaled("1.5e3", 3), 1500000);
  EXPECT_EQ(parse_scaled("12e-1", 0), 1);
  EXPECT_EQ(parse_scaled("9223372036854775807", 0), INT64_MAX);
  EXPECT_EQ(parse_scaled("9223372036854775808", 0), std::nullopt);
  for (const std::string_view bad : {"", ".", "-", "1.2.3", "1e", "nan", "1e999", "0x10", "1 "})
    EXPECT_EQ(parse_scaled(bad, 3), std::nullopt) << bad;
}

TEST(Number, ThousandsSeparatorsOfAnyLocale) {
  EXPECT_EQ(parse_grouped("27,595,520", 0, true), 27595520);
  EXPECT_EQ(parse_grouped("27.595.520", 0, true), 27595520);
  EXPECT_EQ(parse_grouped("4.352", 0, true), 4352);
  EXPECT_EQ(parse_grouped("4.352", 3, false), 4352);
  EXPECT_EQ(parse_grouped("1,234.5", 3, false), 1234500);
  EXPECT_EQ(parse_grouped("1.234,5", 3, false), 1234500);
  EXPECT_EQ(parse_grouped("12,5", 3, false), 12500);
}

}  // namespace
}  // namespace dw::profile
