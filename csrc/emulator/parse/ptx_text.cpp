#include "emulator/parse/ptx_text.h"

#include <algorithm>

#include "emulator/parse/ptx_cursor.h"

namespace vgg::emulator {
namespace {

void blank_comments(std::string& text) {
  auto blank = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      const size_t end = text.find('"', i + 1);
      if (end == std::string::npos) return;
      i = end;
    } else if (text[i] == '/' && i + 1 < text.size() && text[i + 1] == '/') {
      const size_t end = std::min(text.find('\n', i), text.size());
      blank(i, end);
      i = end;
    } else if (text[i] == '/' && i + 1 < text.size() && text[i + 1] == '*') {
      const size_t end = std::min(text.find("*/", i), text.size() - 2) + 2;
      blank(i, end);
      i = end - 1;
    }
  }
}

void parse_file(Cursor& cursor, PtxFile& file) {
  const int index = static_cast<int>(parse_integer(cursor));
  const std::string rest = cursor.rest_of_line();
  const size_t begin = rest.find('"'), end = rest.find('"', begin + 1);
  if (end == std::string::npos) cursor.fail("expected a quoted file name after .file");
  std::string path = rest.substr(begin + 1, end - begin - 1);
  const size_t root = path.rfind("csrc/"), slash = path.rfind('/');
  if (root != std::string::npos) {
    path = path.substr(root + 5);
  } else if (slash != std::string::npos) {
    path = path.substr(slash + 1);
  }
  file.files[index] = path;
}

PtxEntry parse_entry(Cursor& cursor) {
  PtxEntry entry;
  entry.name = cursor.word();
  if (cursor.accept('(')) {
    while (!cursor.accept(')')) {
      if (cursor.word() != ".param") cursor.fail("expected .param");
      entry.params.push_back(parse_variable(cursor, ".param"));
      cursor.accept(',');
    }
  }
  while (cursor.peek() != '{') {
    const std::string directive = cursor.word();
    if (directive[0] != '.') cursor.fail("expected a directive or the body of " + entry.name);
    std::vector<int64_t> numbers;
    while (std::isdigit(static_cast<unsigned char>(cursor.peek()))) {
      numbers.push_back(parse_integer(cursor));
      cursor.accept(',');
    }
    int64_t product = 1;
    for (const int64_t number : numbers) product *= number;
    entry.directives[directive] = product;
    if (directive == ".reqnctapercluster") entry.cluster = numbers;
  }
  entry.body_begin = cursor.position() + 1;
  entry.body_line = cursor.line();
  cursor.skip_braces();
  entry.body_end = cursor.position() - 1;
  return entry;
}

}  // namespace

PtxFile split_ptx(std::string text) {
  PtxFile file;
  file.text = std::move(text);
  blank_comments(file.text);
  Cursor cursor(file.text, 0, file.text.size(), 1);
  bool has_version = false, is_extern = false;
  while (!cursor.at_end()) {
    const std::string word = cursor.word();
    if (word == ".version" || word == ".target" || word == ".address_size" || word == ".loc") {
      has_version |= word == ".version";
      const std::string rest = cursor.rest_of_line();
      if (word == ".address_size" && rest.find("64") == std::string::npos) {
        cursor.fail("only 64-bit addresses are modelled");
      }
    } else if (word == ".visible" || word == ".weak" || word == ".common") {
      // linkage: not needed
    } else if (word == ".extern") {
      is_extern = true;
      continue;
    } else if (word == ".file") {
      parse_file(cursor, file);
    } else if (word == ".section") {
      cursor.until("{");
      cursor.skip_braces();
    } else if (word == ".func") {
      cursor.until(";{");
      if (!cursor.accept(';')) cursor.skip_braces();  // the decoder refuses calls
    } else if (word == ".entry") {
      file.entries.push_back(parse_entry(cursor));
    } else if (word == ".shared" || word == ".global" || word == ".const") {
      PtxVariable variable = parse_variable(cursor, word);
      variable.is_extern |= is_extern;
      file.variables.push_back(std::move(variable));
      cursor.expect(';');
    } else {
      cursor.fail("unknown directive " + word);
    }
    is_extern = false;
  }
  if (!has_version) throw Error("expected PTX text, got text without .version");
  return file;
}

}  // namespace vgg::emulator
