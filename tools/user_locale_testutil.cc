// SPDX-License-Identifier: Apache-2.0
//
// For same_bytes_test.sh: preloaded, it makes a program one that honours the
// user's locale, in C and in C++, as programs that use the library may.

#include <clocale>
#include <locale>
#include <stdexcept>

namespace {

const struct UserLocale {
  UserLocale() {
    std::setlocale(LC_ALL, "");
    try {
      std::locale::global(std::locale(""));
    } catch (const std::runtime_error&) {
      // There is none by the name that the environment gives.
    }
  }
} user_locale;

}  // namespace
