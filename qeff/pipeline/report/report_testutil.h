// SPDX-License-Identifier: Apache-2.0
//
// Reports for tests of the page.

#ifndef QEFF_PIPELINE_REPORT_REPORT_TESTUTIL_H_
#define QEFF_PIPELINE_REPORT_REPORT_TESTUTIL_H_

#include "qeff/util/json.h"

namespace qeff::internal_report {

// A report of every part, as large as that of a model of 22 blocks, with values
// as a run might give them.
Json ExampleReport();

// The same with every string one that tries to run a script where it lands: in
// an element, in an attribute, in a script, or in the JSON.
Json HostileReport();

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_REPORT_TESTUTIL_H_
