// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/point_labels.h"

#include <algorithm>

namespace qeff::internal_report {
namespace {

// The plot of a page 360 pixels wide, and letters of 12 pixels: an average one
// of a wide sans-serif (DejaVu Sans, Verdana) is 7.5 wide.
constexpr double kPlotWidth = 270;
constexpr double kLetterWidth = 7.5;
constexpr double kTextHeight = 14;
constexpr double kPointSize = 14;
constexpr int kGap = 9;
constexpr size_t kMostLetters = 24;

// Characters of UTF-8, not bytes.
size_t Letters(absl::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (c & 0xC0) != 0x80; });
}

// At most kMostLetters characters of it.
std::string Shortened(absl::string_view text) {
  if (Letters(text) <= kMostLetters) return std::string(text);
  size_t end = 0;
  for (size_t letters = 0; end < text.size(); ++end) {
    const bool begins = (text[end] & 0xC0) != 0x80;
    if (begins && letters++ == kMostLetters - 1) break;
  }
  return std::string(text.substr(0, end)) + "…";
}

}  // namespace

PointLabels::PointLabels(const ChartFrame& frame,
                         const std::vector<ChartPoint>& points,
                         const std::vector<ChartPoint>& line)
    : frame_(frame) {
  const auto pixels = [&](const ChartPoint& point) {
    return ChartPoint{frame.x.Share(point.x) * kPlotWidth,
                      PixelsFromTop(frame, point.y)};
  };
  for (const ChartPoint& point : points) {
    const ChartPoint at = pixels(point);
    taken_.push_back({at.x - kPointSize / 2, at.x + kPointSize / 2,
                      at.y - kPointSize / 2, at.y + kPointSize / 2});
  }
  for (const ChartPoint& point : line) line_.push_back(pixels(point));
}

bool PointLabels::IsFree(const Box& box) const {
  if (box.left < 0 || box.right > kPlotWidth + 10) return false;
  if (box.top < 0 || box.bottom > frame_.height) return false;
  return std::none_of(taken_.begin(), taken_.end(), [&](const Box& other) {
    return box.left < other.right && other.left < box.right &&
           box.top < other.bottom && other.top < box.bottom;
  });
}

bool PointLabels::IsOnLine(const Box& box) const {
  for (size_t i = 1; i < line_.size(); ++i) {
    const ChartPoint& a = line_[i - 1];
    const ChartPoint& b = line_[i];
    // The part of the segment between the box's left and right edges, as shares
    // of the segment; its x ascend.
    if (a.x > box.right || b.x < box.left) continue;
    const double width = std::max(b.x - a.x, 1e-9);
    const double from = std::clamp((box.left - a.x) / width, 0.0, 1.0);
    const double to = std::clamp((box.right - a.x) / width, 0.0, 1.0);
    const auto [top, bottom] =
        std::minmax({a.y + from * (b.y - a.y), a.y + to * (b.y - a.y)});
    if (top < box.bottom && bottom > box.top) return true;
  }
  return false;
}

bool PointLabels::Add(const ChartPoint& point, absl::string_view name) {
  const std::string text = Shortened(name);
  if (text.empty()) return false;
  struct Side {
    int dx, dy;
    const char* anchor;
    double shift;  // of the text's left edge, in its width
  };
  static constexpr Side kSides[] = {{kGap, 4, "start", 0},
                                    {-kGap, 4, "end", -1},
                                    {0, -kGap - 2, "middle", -0.5},
                                    {0, kGap + 11, "middle", -0.5}};
  const double width = Letters(text) * kLetterWidth;
  const double share = frame_.x.Share(point.x);
  const double y = PixelsFromTop(frame_, point.y);
  for (const bool over_line : {false, true}) {
    for (const Side& side : kSides) {
      const double left = share * kPlotWidth + side.dx + side.shift * width;
      const double bottom = y + side.dy + 3;
      const Box box = {left, left + width, bottom - kTextHeight, bottom};
      if (!IsFree(box) || IsOnLine(box) != over_line) continue;
      taken_.push_back(box);
      svg_ += DrawText(share, y, side.dx, side.dy, side.anchor, "label", text);
      return true;
    }
  }
  return false;
}

}  // namespace qeff::internal_report
