// SPDX-License-Identifier: Apache-2.0
//
// The order of rows that llama.cpp's rope wants in the architecture "llama": it
// turns neighbours where Hugging Face's turns halves of a head.

#ifndef QEFF_EXPORT_HEAD_ROWS_H_
#define QEFF_EXPORT_HEAD_ROWS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace qeff {

// Turns each head's rows [half 0; half 1] into pairs: row s * head_dim / 2 + i
// becomes row 2 i + s. `rows` holds whole heads of `head_dim` rows of
// `row_elems` elements.
template <class T>
void InterleaveHeads(int64_t head_dim, int64_t row_elems, absl::Span<T> rows);

// The inverse.
template <class T>
void SeparateHeads(int64_t head_dim, int64_t row_elems, absl::Span<T> rows);

// Implementation.

namespace internal_head_rows {

// Moves each head's row from(2 i + s) to row to(2 i + s).
template <class T, class From, class To>
void MoveRows(int64_t head_dim, int64_t row_elems, absl::Span<T> rows,
              From from, To to) {
  const size_t row = static_cast<size_t>(row_elems);
  const size_t head_rows = static_cast<size_t>(head_dim);
  std::vector<T> source(row * head_rows);
  for (size_t begin = 0; begin < rows.size(); begin += source.size()) {
    std::copy_n(rows.data() + begin, source.size(), source.begin());
    for (size_t r = 0; r < head_rows; ++r) {
      std::copy_n(source.data() + from(r) * row, row,
                  rows.data() + begin + to(r) * row);
    }
  }
}

}  // namespace internal_head_rows

template <class T>
void InterleaveHeads(int64_t head_dim, int64_t row_elems, absl::Span<T> rows) {
  const size_t half = static_cast<size_t>(head_dim) / 2;
  internal_head_rows::MoveRows(
      head_dim, row_elems, rows,
      [half](size_t r) { return r % 2 * half + r / 2; },
      [](size_t r) { return r; });
}

template <class T>
void SeparateHeads(int64_t head_dim, int64_t row_elems, absl::Span<T> rows) {
  const size_t half = static_cast<size_t>(head_dim) / 2;
  internal_head_rows::MoveRows(
      head_dim, row_elems, rows, [](size_t r) { return r; },
      [half](size_t r) { return r % 2 * half + r / 2; });
}

}  // namespace qeff

#endif  // QEFF_EXPORT_HEAD_ROWS_H_
