// SPDX-License-Identifier: Apache-2.0
//
// The report of an optimization as a page that a browser shows.

#ifndef QEFF_PIPELINE_REPORT_REPORT_HTML_H_
#define QEFF_PIPELINE_REPORT_REPORT_HTML_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff {

// One HTML file with its charts, style and script in it: it asks no network,
// and its Content-Security-Policy lets no script run but its own. Readable on
// a phone, on paper, light and dark, and without scripts. Strings of `report`
// are shown, whatever they hold. The same report gives the same bytes.
// Thread-safe.
//
// What the page draws, as members of `report`; what is missing, null or of
// another type is left out, other members are kept:
//   model, recipe   strings
//   environment     an object of strings and numbers
//   steps           [{name, kind, arguments: [...], hash, from_cache, seconds,
//                     peak_bytes, bytes, bits_per_weight, parameters, result}]
//   models          [{name, bytes, bits_per_weight, perplexity, kl_mean,
//                     top1_agreement}], the first one is what was optimized
//   front           [the same and recipe, chosen], what a search has seen
//   layers          [{step, name, role, block, bits, relative_error, loss,
//                     rounding_loss}]
//   sensitivities   [{scheme, name, role, block, sensitivity}]
//   weight_histograms, activation_histograms
//                   [{role, low, high, before: [counts], after: [counts]}]
//   loss_curves     [{step, points: [{step, loss, held_out}]}]
//   samples         [{prompt, before, after}]
// All of it is in the page's <script type="application/json" id="report">, too.
std::string ReportHtml(const Json& report);

}  // namespace qeff

#endif  // QEFF_PIPELINE_REPORT_REPORT_HTML_H_
