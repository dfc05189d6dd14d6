// Pairing, time and gaps on constructed traces.
#include "profile/analysis/kernel_table.h"

#include <gmock/gmock.h>

namespace dw::profile {
namespace {

using testing::Each;
using testing::ElementsAre;

KernelEvent kernel(std::string_view name, int64_t start, int64_t end, uint64_t node = 0,
                   uint32_t correlation = 0) {
  KernelEvent event;
  event.name = name;
  event.start_ns = start;
  event.end_ns = end;
  event.graph_node = node;
  event.correlation = correlation;
  return event;
}

KernelEvent copy(int64_t start, int64_t end, int64_t bytes) {
  KernelEvent event = kernel("copy host to device", start, end);
  event.kind = EventKind::kCopy;
  event.bytes = bytes;
  return event;
}

Annotation note(const char* op, const char* name, double bytes = 0, double operations = 0) {
  return {op, name, -1, bytes, operations};
}

// Kernels "k0".."k9" at times that do not matter.
std::vector<KernelEvent> kernels(const std::string& digits) {
  static constexpr std::string_view kNames[] = {
      "void n::k0<1>(int)", "n::k1(int)", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9"};
  std::vector<KernelEvent> events;
  for (const char digit : digits)
    events.push_back(
        kernel(kNames[digit - '0'], int64_t(events.size()) * 10, int64_t(events.size()) * 10 + 5));
  return events;
}

std::vector<Annotation> notes(const std::string& digits) {
  std::vector<Annotation> list;
  for (const char digit : digits) list.push_back(note("op", (std::string("k") + digit).c_str()));
  return list;
}

TEST(PairLaunches, ByOrderAndName) {
  const Pairing p = pair_launches(kernels("0120122"), notes("0120122"));
  EXPECT_THAT(p.annotation, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_EQ(p.pairs, 7);
  EXPECT_EQ(p.kernels_alone + p.annotations_alone, 0);
}

TEST(PairLaunches, LeavesOutWhatNobodyAnnotated) {
  const Pairing p = pair_launches(kernels("9019201239"), notes("0120123"));
  EXPECT_THAT(p.annotation, ElementsAre(-1, 0, 1, -1, 2, 3, 4, 5, 6, -1));
  EXPECT_EQ(p.kernels_alone, 3);
  EXPECT_EQ(p.annotations_alone, 0);
}

TEST(PairLaunches, GoesOnAfterLostRecords) {
  const Pairing p = pair_launches(kernels("012678"), notes("012345678"));
  EXPECT_THAT(p.annotation, ElementsAre(0, 1, 2, 6, 7, 8));
  EXPECT_EQ(p.kernels_alone, 0);
  EXPECT_EQ(p.annotations_alone, 3);
}

TEST(PairLaunches, GoesOnWhereBothSidesLackSome) {
  const Pairing p = pair_launches(kernels("0199456"), notes("0123456"));
  EXPECT_THAT(p.annotation, ElementsAre(0, 1, -1, -1, 4, 5, 6));
  EXPECT_EQ(p.kernels_alone, 2);
  EXPECT_EQ(p.annotations_alone, 2);
}

// As above, but what is lost and what is too much bears names that both sides know.
TEST(PairLaunches, GoesOnAmongRepeatedNames) {
  const Pairing lost = pair_launches(kernels("0123"
                                             "23"
                                             "0123"),
                                     notes("0123"
                                           "0123"
                                           "0123"));
  EXPECT_THAT(lost.annotation, ElementsAre(0, 1, 2, 3, 6, 7, 8, 9, 10, 11));
  EXPECT_EQ(lost.annotations_alone, 2);
  const Pairing more = pair_launches(kernels("0123"
                                             "1"
                                             "0123"),
                                     notes("0123"
                                           "0123"));
  EXPECT_THAT(more.annotation, ElementsAre(0, 1, 2, 3, -1, 4, 5, 6, 7));
  EXPECT_EQ(more.kernels_alone, 1);
}

TEST(PairLaunches, NothingInCommon) {
  const Pairing p = pair_launches(kernels(std::string(200, '1')), notes(std::string(100, '2')));
  EXPECT_THAT(p.annotation, Each(-1));
  EXPECT_EQ(p.kernels_alone, 200);
  EXPECT_EQ(p.annotations_alone, 100);
}

TEST(PairLaunches, CopiesAreNoLaunches) {
  auto events = kernels("01");
  events.insert(events.begin() + 1, copy(6, 8, 1));
  EXPECT_THAT(pair_launches(events, notes("01")).annotation, ElementsAre(0, -1, 1));
  EXPECT_TRUE(pair_launches({}, {}).annotation.empty());
  EXPECT_EQ(pair_launches({}, notes("01")).annotations_alone, 2);
}

TEST(LayOut, GapsOfOneAfterAnother) {
  const std::vector<KernelEvent> events = {kernel("a", 100, 110), kernel("b", 110, 130),
                                           kernel("c", 137, 140)};
  const Timeline line = lay_out(events);
  EXPECT_THAT(line.time_ns, ElementsAre(10, 20, 3));
  EXPECT_THAT(line.gap_ns, ElementsAre(0, 0, 7));
  EXPECT_EQ(line.span_ns, 40);
  EXPECT_EQ(line.busy_ns, 33);
  EXPECT_EQ(line.idle_ns, 7);
}

TEST(LayOut, AMomentBelongsToTheKernelThatStartedFirst) {
  // b starts inside a, c lies inside b and a long b covers d's start.
  const std::vector<KernelEvent> events = {kernel("a", 0, 10), kernel("b", 8, 30), kernel("c", 12, 20),
                                           kernel("d", 25, 35), kernel("e", 40, 41)};
  const Timeline line = lay_out(events);
  EXPECT_THAT(line.time_ns, ElementsAre(10, 20, 0, 5, 1));
  EXPECT_THAT(line.gap_ns, ElementsAre(0, 0, 0, 0, 5));
  EXPECT_EQ(line.span_ns, 41);
  EXPECT_EQ(line.busy_ns + line.idle_ns, line.span_ns);
}

TEST(LayOut, IdleInsideGraphsIsOfOneLaunch) {
  // Two launches of a graph of two nodes: 3 idle inside the first, 5 between, 7 inside the second.
  const std::vector<KernelEvent> events = {kernel("a", 0, 10, 1, 50), kernel("b", 13, 20, 2, 50),
                                           kernel("a", 25, 30, 1, 51), kernel("b", 37, 40, 2, 51)};
  const Timeline line = lay_out(events);
  EXPECT_EQ(line.idle_ns, 15);
  EXPECT_EQ(line.graph_idle_ns, 10);
}

TEST(LayOut, NothingTakesNoTime) {
  EXPECT_EQ(lay_out({}).span_ns, 0);
}

TEST(KernelTable, SumsByOpAndKernel) {
  const std::vector<KernelEvent> events = {kernel("void n::mat<1>(int)", 0, 100),
                                           kernel("void n::mat<2>(int)", 90, 400),
                                           kernel("own", 410, 420),
                                           kernel("norm", 420, 430),
                                           copy(450, 460, 50),
                                           kernel("norm", 460, 480)};
  const std::vector<Annotation> list = {note("linear", "mat", 1000, 4e6), note("linear", "mat", 3000, 8e6),
                                        note("norm", "norm", 20), note("norm", "norm", 40)};
  const KernelTable table = make_kernel_table(events, list);
  std::vector<std::string> names;
  for (const OpRow& op : table.ops) names.push_back(op.total.name);
  EXPECT_THAT(names, ElementsAre("linear", "norm", "(not annotated)", "memory"));
  const OpRow& linear = table.ops[0];
  EXPECT_EQ(linear.total.launches, 2);
  EXPECT_EQ(linear.total.time_ns, 400);
  EXPECT_DOUBLE_EQ(linear.total.gigabytes_per_second(), 10);
  EXPECT_DOUBLE_EQ(linear.total.teraflops(), 30);
  ASSERT_EQ(linear.kernels.size(), 2u);
  EXPECT_EQ(linear.kernels[0].name, "mat<2>");
  EXPECT_EQ(linear.kernels[0].kernel, "void n::mat<2>(int)");
  EXPECT_EQ(linear.kernels[0].time_ns, 300);
  EXPECT_DOUBLE_EQ(linear.kernels[0].gigabytes_per_second(), 10);
  EXPECT_EQ(table.ops[1].total.time_ns, 30);
  EXPECT_DOUBLE_EQ(table.ops[1].total.gigabytes_per_second(), 2);
  EXPECT_EQ(table.ops[2].total.gap_ns, 10);
  EXPECT_EQ(table.ops[2].total.gigabytes_per_second(), 0);
  EXPECT_DOUBLE_EQ(table.ops[3].total.gigabytes_per_second(), 5);
  EXPECT_EQ(table.ops[3].kernels[0].name, "copy host to device");
  EXPECT_EQ(table.kernel_count, 5);
  EXPECT_EQ(table.unknown_kernels, 1);
  EXPECT_EQ(table.missing_kernels, 0);
  EXPECT_EQ(table.total.time_ns, table.busy_ns);
  EXPECT_EQ(table.total.gap_ns, table.idle_ns);
  EXPECT_EQ(table.idle_ns, 30);
  EXPECT_EQ(table.span_ns, 480);
}

TEST(KernelTable, TheRateOfPartlyAnnotatedTimeCountsThatPartAlone) {
  const std::vector<KernelEvent> events = {kernel("a", 0, 10), kernel("b", 10, 100)};
  const std::vector<Annotation> list = {note("a", "a", 50)};
  EXPECT_DOUBLE_EQ(make_kernel_table(events, list).total.gigabytes_per_second(), 5);
}

}  // namespace
}  // namespace dw::profile
