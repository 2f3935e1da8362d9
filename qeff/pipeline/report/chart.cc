// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/chart.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/pipeline/report/html_text.h"

namespace qeff::internal_report {
namespace {

std::string Percent(double share) {
  return absl::StrFormat("%.3f%%", share * 100);
}

std::string Pixels(double value) { return absl::StrFormat("%.2f", value); }

std::string MarkAttributes(const Mark& mark) {
  std::string html = absl::StrCat(" class=\"mark ", mark.style, "\"");
  for (const auto& [name, value] : mark.data) {
    const std::string text =
        value.is_string()
            ? value.get<std::string>()
            : value.dump(-1, ' ', false, Json::error_handler_t::replace);
    absl::StrAppend(&html, " data-", name, "=\"", EscapeHtml(text), "\"");
  }
  return html;
}

std::string MarkTitle(const Mark& mark) {
  return absl::StrCat("<title>", EscapeHtml(mark.title), "</title>");
}

std::string Rectangle(double x0_share, double x1_share, double top,
                      double height, const Mark& mark) {
  return absl::StrCat("<rect x=\"", Percent(x0_share), "\" y=\"", Pixels(top),
                      "\" width=\"", Percent(x1_share - x0_share),
                      "\" height=\"", Pixels(height), "\"",
                      MarkAttributes(mark), ">", MarkTitle(mark), "</rect>\n");
}

std::string GridLine(absl::string_view x0, absl::string_view x1,
                     absl::string_view y0, absl::string_view y1) {
  return absl::StrCat("<line class=\"grid\" x1=\"", x0, "\" x2=\"", x1,
                      "\" y1=\"", y0, "\" y2=\"", y1, "\"/>\n");
}

// Lines across at the ticks of one axis: of y, or of x where y has none.
std::string Grid(const ChartFrame& frame) {
  const std::string bottom = absl::StrCat(frame.height);
  std::string svg;
  for (const double tick : frame.x.ticks) {
    const double share = frame.x.Share(tick);
    if (!frame.y_ticks) {
      const std::string x = Percent(share);
      svg += GridLine(x, x, "0", bottom);
    }
    svg += DrawText(share, frame.height, 0, 19, "middle", "tick",
                    frame.x.TickText(tick));
  }
  if (frame.y_ticks) {
    for (const double tick : frame.y.ticks) {
      const double y = PixelsFromTop(frame, tick);
      svg += GridLine("0", "100%", Pixels(y), Pixels(y));
      svg += DrawText(0, y, -8, 4, "end", "tick", frame.y.TickText(tick));
    }
    absl::StrAppend(&svg, "<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"",
                    bottom, "\" y2=\"", bottom, "\"/>\n");
  }
  return svg;
}

std::string Caption(const ChartFrame& frame) {
  std::string html =
      absl::StrCat("<figcaption><b>", EscapeHtml(frame.title), "</b>");
  if (!frame.note.empty()) {
    absl::StrAppend(&html, "<span>", EscapeHtml(frame.note), "</span>");
  }
  html += DrawLegend(frame.legend);
  return html + "</figcaption>\n";
}

}  // namespace

std::string DrawLegend(
    const std::vector<std::pair<std::string, std::string>>& legend) {
  if (legend.empty()) return "";
  std::string html = "<span class=\"legend\">";
  for (const auto& [style, meaning] : legend) {
    absl::StrAppend(&html, "<span><i class=\"", style, "\"></i>",
                    EscapeHtml(meaning), "</span>");
  }
  return html + "</span>";
}

double PixelsFromTop(const ChartFrame& frame, double y) {
  return frame.height * (1 - frame.y.Share(y));
}

std::string DrawChart(const ChartFrame& frame, absl::string_view marks) {
  std::string html = absl::StrCat(
      "<figure class=\"chart", frame.y_ticks ? "" : " rows", "\" data-chart=\"",
      EscapeHtml(frame.id), "\">\n", Caption(frame));
  if (!frame.y_title.empty()) {
    absl::StrAppend(&html, "<p class=\"y-title\">", EscapeHtml(frame.y_title),
                    "</p>\n");
  }
  absl::StrAppend(&html, "<div class=\"plot\"><svg role=\"img\" aria-label=\"",
                  EscapeHtml(frame.title), "\" width=\"100%\" height=\"",
                  frame.height, "\">\n", Grid(frame), marks, "</svg></div>\n",
                  "<p class=\"x-title\">", EscapeHtml(frame.x_title),
                  "</p>\n</figure>\n");
  return html;
}

std::string DrawPoint(const ChartFrame& frame, double x, double y,
                      const Mark& mark) {
  return absl::StrCat("<circle cx=\"", Percent(frame.x.Share(x)), "\" cy=\"",
                      Pixels(PixelsFromTop(frame, y)), "\" r=\"", mark.radius,
                      "\"", MarkAttributes(mark), ">", MarkTitle(mark),
                      "</circle>\n");
}

std::string DrawBar(const ChartFrame& frame, double x0, double y0, double x1,
                    double y1, const Mark& mark) {
  const double top = PixelsFromTop(frame, std::max(y0, y1));
  return Rectangle(frame.x.Share(x0), frame.x.Share(x1), top,
                   PixelsFromTop(frame, std::min(y0, y1)) - top, mark);
}

std::string DrawRowBar(const ChartFrame& frame, double x0, double x1, int top,
                       int height, const Mark& mark) {
  return Rectangle(frame.x.Share(x0), frame.x.Share(x1), top, height, mark);
}

std::string DrawLine(const ChartFrame& frame,
                     const std::vector<ChartPoint>& points,
                     absl::string_view style) {
  if (points.size() < 2) return "";
  // A picture of its own that is stretched to the width: a <polyline> has no
  // shares. Its stroke is not stretched.
  std::string svg =
      absl::StrCat("<svg class=\"stretched\" width=\"100%\" height=\"",
                   frame.height, "\" viewBox=\"0 0 1000 ", frame.height,
                   "\" preserveAspectRatio=\"none\"><polyline class=\"", style,
                   "\" points=\"");
  for (const ChartPoint& point : points) {
    absl::StrAppend(&svg, Pixels(1000 * frame.x.Share(point.x)), ",",
                    Pixels(PixelsFromTop(frame, point.y)), " ");
  }
  svg.pop_back();
  return svg + "\"/></svg>\n";
}

std::string DrawText(double x_share, double y, int dx, int dy,
                     absl::string_view anchor, absl::string_view style,
                     absl::string_view text) {
  return absl::StrCat("<text class=\"", style, "\" x=\"", Percent(x_share),
                      "\" y=\"", Pixels(y), "\" dx=\"", dx, "\" dy=\"", dy,
                      "\" text-anchor=\"", anchor, "\">", EscapeHtml(text),
                      "</text>\n");
}

}  // namespace qeff::internal_report
