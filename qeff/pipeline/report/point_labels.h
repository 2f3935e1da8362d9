// SPDX-License-Identifier: Apache-2.0
//
// Names beside the points of a chart that do not lie over each other.

#ifndef QEFF_PIPELINE_REPORT_POINT_LABELS_H_
#define QEFF_PIPELINE_REPORT_POINT_LABELS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/pipeline/report/chart.h"

namespace qeff::internal_report {

// Places labels as if the plot were as wide as on a phone: what has room there
// has room on a wider page, since distances grow and letters do not. A label
// that has none is left out; the point's title and the table have its name.
// Not thread-safe.
class PointLabels {
 public:
  // No label will cover one of `points`, nor the line through `line` where
  // there is another place.
  PointLabels(const ChartFrame& frame, const std::vector<ChartPoint>& points,
              const std::vector<ChartPoint>& line);

  // Puts a plain text right, left, above or below of `point`. Returns whether
  // there was room.
  bool Add(const ChartPoint& point, absl::string_view name);

  const std::string& svg() const { return svg_; }

 private:
  struct Box {
    double left, right, top, bottom;
  };

  // Inside of the plot and over nothing.
  bool IsFree(const Box& box) const;
  bool IsOnLine(const Box& box) const;

  ChartFrame frame_;
  std::vector<Box> taken_;
  std::vector<ChartPoint> line_;  // in pixels
  std::string svg_;
};

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_POINT_LABELS_H_
