// Expected<T>: a value or an Error. The engine reports user and I/O errors this way; no exception crosses
// its API. An Error is one sentence: what is wrong, where, and what to do about it.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"

namespace dw {

struct Error {
  std::string message;
};

template <class T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Expected(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return checked(); }
  const T& value() const& { return const_cast<Expected*>(this)->checked(); }
  T&& value() && { return std::move(checked()); }
  T& operator*() & { return checked(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    DW_CHECK(!has_value(), "error() of an Expected that holds a value");
    return *std::get_if<1>(&state_);
  }

 private:
  T& checked() {
    DW_CHECK(has_value(), std::get_if<1>(&state_)->message.c_str());
    return *std::get_if<0>(&state_);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Expected<void> {
 public:
  Expected() = default;
  Expected(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit by design
  bool has_value() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const {
    DW_CHECK(!ok_, "error() of an Expected that holds a value");
    return error_;
  }

 private:
  Error error_;
  bool ok_ = true;
};

// An Error whose message is the concatenation of its arguments (anything std::to_string or std::string
// takes).
namespace detail {
inline void append(std::string& out, std::string_view piece) {
  out += piece;
}
inline void append(std::string& out, char piece) {
  out += piece;
}
template <class T>
requires std::is_arithmetic_v<T>
void append(std::string& out, T piece) {
  out += std::to_string(piece);
}
}  // namespace detail

template <class... Pieces>
Error make_error(const Pieces&... pieces) {
  Error error;
  (detail::append(error.message, pieces), ...);
  return error;
}

}  // namespace dw
