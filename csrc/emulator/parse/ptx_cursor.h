// Words, numbers and variables of PTX, shared by the parsers of files (ptx_text.cpp) and of kernel
// bodies (ptx_body.cpp).

#pragma once

#include <cctype>
#include <cstring>
#include <string>

#include "emulator/parse/ptx_text.h"

namespace vgg::emulator {

// A position in a range of the text.
class Cursor {
 public:
  Cursor(const std::string& text, size_t begin, size_t end, int line)
      : text_(text), at_(begin), end_(end), line_(line) {}

  int line() const { return line_; }
  size_t position() const { return at_; }
  bool at_end() {
    skip_space();
    return at_ >= end_;
  }
  char peek() {
    skip_space();
    return at_ < end_ ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    advance();
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("expected '") + c + "'");
  }

  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' ||
           c == '.';
  }
  // Reads a name: letters, digits, dots, and double colons as in L2::128B.
  std::string word() {
    skip_space();
    const size_t begin = at_;
    while (at_ < end_) {
      if (is_word(text_[at_])) {
        ++at_;
      } else if (text_[at_] == ':' && at_ + 1 < end_ && text_[at_ + 1] == ':') {
        at_ += 2;
      } else {
        break;
      }
    }
    if (at_ == begin) fail("expected a name");
    return text_.substr(begin, at_ - begin);
  }
  std::string rest_of_line() { return until("\n"); }
  // Reads up to, not including, the first of the characters `stops`.
  std::string until(const char* stops) {
    const size_t begin = at_;
    while (at_ < end_ && !std::strchr(stops, text_[at_])) advance();
    return text_.substr(begin, at_ - begin);
  }
  // Moves from an opening brace past its closing brace.
  void skip_braces() {
    int depth = 0;
    do {
      const char c = peek();
      if (c == '\0') fail("unbalanced braces");
      depth += (c == '{') - (c == '}');
      advance();
    } while (depth > 0);
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error("PTX line " + std::to_string(line_) + ": " + what);
  }

 private:
  void advance() { line_ += text_[at_++] == '\n'; }
  void skip_space() {
    while (at_ < end_ && std::isspace(static_cast<unsigned char>(text_[at_]))) advance();
  }

  const std::string& text_;
  size_t at_, end_;
  int line_;
};

// Parses `word` as an integer or a float constant.
void parse_number(Cursor& cursor, const std::string& word, PtxOperand& operand);
int64_t parse_integer(Cursor& cursor);

// Parses ".align 8 .b8 name[56] = {1, 2}", which follows the state space.
PtxVariable parse_variable(Cursor& cursor, const std::string& space);

}  // namespace vgg::emulator
