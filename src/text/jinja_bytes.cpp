// str.encode() and the bytes that it gives: they can be printed, counted, compared, iterated and decoded.
// Python's other methods of bytes are not there.
#include <algorithm>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

enum class Encoding { kUtf8, kAscii, kLatin1 };

struct BytesIterator : Iterator {
  std::string bytes;
  size_t at = 0;
  bool next(Runtime& rt, Value& out) override {
    if (at >= bytes.size()) return false;
    rt.step();
    out = Value::integer(static_cast<unsigned char>(bytes[at++]));
    return true;
  }
};

struct Bytes : CustomObject, std::enable_shared_from_this<Bytes> {
  std::string bytes;
  std::string_view type_name() const override { return "bytes"; }
  std::string repr(Runtime& rt) const override;
  bool truth() const override { return !bytes.empty(); }
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  std::optional<int64_t> length(Runtime&) override { return int64_t(bytes.size()); }
  std::shared_ptr<Iterator> iterate(Runtime&) override {
    auto iterator = std::make_shared<BytesIterator>();
    iterator->bytes = bytes;
    return iterator;
  }
  bool equals(Runtime&, const CustomObject& other) const override {
    const auto* same = dynamic_cast<const Bytes*>(&other);
    return same && same->bytes == bytes;
  }
};

std::string hex_digits(unsigned char byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  return {kDigits[byte >> 4], kDigits[byte & 15]};
}

std::string Bytes::repr(Runtime& rt) const {
  rt.check_length(int64_t(bytes.size()) * 4);
  rt.charge(int64_t(bytes.size()) * 4);
  const bool doubled = bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = doubled ? '"' : '\'';
  std::string out = std::string("b") + quote;
  for (char c : bytes) {
    if (c == quote || c == '\\')
      out += std::string("\\") + c;
    else if (c == '\n' || c == '\r' || c == '\t')
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    else if (c >= ' ' && c <= '~')
      out += c;
    else
      out += "\\x" + hex_digits(static_cast<unsigned char>(c));
  }
  return out + quote;
}

Encoding find_encoding(const std::string& name) {
  std::string plain;
  for (char c : name)
    if (c != '-' && c != '_' && c != ' ') plain += char(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (plain == "utf8") return Encoding::kUtf8;
  if (plain == "ascii" || plain == "usascii") return Encoding::kAscii;
  if (plain == "latin1" || plain == "iso88591") return Encoding::kLatin1;
  fail("the encoding '", name, "' is not supported: utf-8, ascii and latin-1 are");
}

// What stands for a character that the encoding does not have.
std::string substitute(const std::string& errors, char32_t code) {
  if (errors == "ignore") return "";
  if (errors == "replace") return "?";
  if (errors != "strict") fail("the error handler '", errors, "' is not supported");
  fail("a character (", uint32_t(code), ") does not exist in this encoding");
}

Value decode(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "decode", args, {"encoding", "errors"});
  const Encoding encoding = bound.has(0) ? find_encoding(bound.str(0)) : Encoding::kUtf8;
  const std::string& bytes = custom_as<Bytes>(self)->bytes;
  if (encoding == Encoding::kUtf8) {
    if (find_invalid_utf8(bytes) != std::string_view::npos) fail("these bytes are not valid UTF-8");
    return rt.text(bytes);
  }
  std::u32string text;
  for (char c : bytes) {
    if (encoding == Encoding::kAscii && (c & 0x80)) fail("these bytes are not ASCII");
    text += static_cast<unsigned char>(c);
  }
  return rt.text(encode_utf8(text));
}
Value hex(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "hex", args, {});
  std::string out;
  for (char c : custom_as<Bytes>(self)->bytes) out += hex_digits(static_cast<unsigned char>(c));
  return rt.text(std::move(out));
}

std::optional<Value> Bytes::attribute(Runtime& rt, std::string_view name) {
  if (name != "decode" && name != "hex") return std::nullopt;
  auto method = std::make_shared<Builtin>();
  method->name = name;
  method->self = Value::of(Type::kObject, shared_from_this());
  method->function = name == "decode" ? decode : hex;
  return rt.object(std::move(method));
}

}  // namespace

Value encode_method(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "encode", args, {"encoding", "errors"});
  const Encoding encoding = bound.has(0) ? find_encoding(bound.str(0)) : Encoding::kUtf8;
  const std::string errors = bound.has(1) ? bound.str(1) : "strict";
  auto out = std::make_shared<Bytes>();
  if (encoding == Encoding::kUtf8) {
    out->bytes = self.str();
  } else {
    const char32_t limit = encoding == Encoding::kAscii ? 0x80 : 0x100;
    for (char32_t code : decode_utf8(self.str())) {
      if (code < limit)
        out->bytes += char(code);
      else
        out->bytes += substitute(errors, code);
    }
  }
  rt.charge(int64_t(out->bytes.size()));
  return rt.object(std::move(out));
}

}  // namespace dw::jinja
