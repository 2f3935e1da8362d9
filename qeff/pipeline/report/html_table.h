// SPDX-License-Identifier: Apache-2.0
//
// Tables of what a list of objects holds.

#ifndef QEFF_PIPELINE_REPORT_HTML_TABLE_H_
#define QEFF_PIPELINE_REPORT_HTML_TABLE_H_

#include <functional>
#include <string>
#include <vector>

#include "qeff/util/json.h"

namespace qeff::internal_report {

struct TableColumn {
  const char* key;    // of a member that is a number
  const char* title;  // plain text
  std::string (*text)(double value);
};

// A row for each of `items`, an array: its "name", and a column for each of
// `columns` that one of them has. `note`, which may be empty, gives a second
// line of plain text to a cell, or nothing. Empty without items.
std::string HtmlTable(
    const Json& items, const std::vector<TableColumn>& columns,
    const std::function<std::string(const Json& item, const char* key)>& note);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_HTML_TABLE_H_
