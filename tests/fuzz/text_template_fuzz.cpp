// Templates of any bytes, rendered over a small conversation with tight limits: no crash, hang or leak.
#include <string_view>

#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const auto parsed = dw::ChatTemplate::create(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!parsed) return 0;
  static const auto messages = dw::parse_json(
      R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "caf\u00e9 <b> 12"},
          {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": {"a": 1, "b": [1.5, true, null]}}}]},
          {"role": "tool", "content": "ok"}, {"role": "user", "content": ""}])");
  static const auto tools =
      dw::parse_json(R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])");
  dw::ChatOptions options;
  options.limits.steps = 20000;
  options.limits.output_bytes = 1 << 18;
  options.limits.memory_bytes = 1 << 22;
  options.clock = [] { return std::tm{}; };
  const auto text = parsed->apply(*messages, *tools, options);
  return text && text->size() > size_t(options.limits.output_bytes) ? __builtin_trap(), 0 : 0;
}
