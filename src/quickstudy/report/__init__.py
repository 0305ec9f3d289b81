"""Self-contained HTML reports: building blocks (`html`, `charts`, `images`) and the page of one or more runs (`runs`)."""

from quickstudy.report.charts import Series, line_chart
from quickstudy.report.html import Section, page, paragraph, side_by_side, stats, table
from quickstudy.report.images import image_grid

__all__ = ["Section", "Series", "image_grid", "line_chart", "page", "paragraph", "side_by_side", "stats", "table"]
