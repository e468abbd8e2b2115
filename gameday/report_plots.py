"""The plots of one engine in one run: traffic, latency and failed attempts over time, one above the other.

Time is in seconds relative to the fault. Colours are chosen to read on a light and on a dark page; what depends on the
scheme (text, grid) is set by the page's own script when it draws.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gameday.measure import FAILED, percentile
from gameday.records import Request
from gameday.report_story import Mark, Shade

BLUE, GREEN, RED, AMBER, VIOLET, GREY = "#3b82f6", "#16a34a", "#e5484d", "#d97706", "#8b5cf6", "#808a94"
KIND_COLOURS = (RED, AMBER, VIOLET, BLUE, "#db2777", GREY)
# beyond this many bins a plot on a page says no more, and the page grows
BINS_MAX = 600
KINDS_MAX = 5
KIND_LENGTH_MAX = 36
MARK_LEVELS = 4

# heights in pixels: the page sets the width, and everything above a plot needs the same room whatever the width is
PLOT_HEIGHTS = (170, 210, 120)
GAP_PX = 62
MARK_LEVEL_PX = 17
BOTTOM_PX = 96


def bin_width_s(requests: Sequence[Request]) -> float:
    """Return the width of the bins of all series in seconds: 1, or more where the run is longer than `BINS_MAX` s."""
    if not requests:
        return 1.0
    length_s = max(item.ended for item in requests) - min(item.intended for item in requests)
    return float(max(1, math.ceil(length_s / BINS_MAX)))


def failed_attempts(request: Request) -> list[str]:
    """Return the kind of each attempt of an operation that failed, also of those that a retry helped."""
    if request.outcome == "dropped":
        return ["not sent: no client free"]
    kinds = request.attempt_errors or ([request.error or "no reason given"] if request.outcome == "error" else [])
    return [kind if len(kind) <= KIND_LENGTH_MAX else kind[: KIND_LENGTH_MAX - 1] + "…" for kind in kinds]


def engine_figure(
    requests: Sequence[Request], origin_mono: float, marks: Sequence[Mark], shades: Sequence[Shade]
) -> go.Figure:
    """Draw one engine's requests; times of marks and shades are seconds relative to `origin_mono`.

    The requests must be of one engine and not empty.
    """
    width_s = bin_width_s(requests)
    bins = _Bins(origin_mono, width_s, requests)
    figure = make_subplots(rows=3, shared_xaxes=True)
    _add_traffic(figure, bins, requests)
    _add_latency(figure, bins, requests)
    kinds = _add_failed_attempts(figure, bins, requests)
    levels = _levels(marks, bins.end_s - bins.begin_s)
    _lay_out(figure, width_s, 1 + max(levels, default=-1), nothing_failed=not kinds)
    for shade in shades:
        style = {"fillcolor": RED, "opacity": 0.10, "line_width": 0, "layer": "below"}
        _add_to_each_plot(figure, type="rect", x0=shade.begin_s, x1=shade.end_s, **style)
    for mark, level in zip(marks, levels, strict=True):
        _add_mark(figure, mark, level)
    figure.update_xaxes(range=[bins.begin_s, bins.end_s])
    return figure


class _Bins:
    """Equal bins of time over all requests of an engine, one edge of them at the fault."""

    def __init__(self, origin_mono: float, width_s: float, requests: Sequence[Request]) -> None:
        self.origin_mono = origin_mono
        self.width_s = width_s
        self.first = self.number(min(item.intended for item in requests))
        self.last = self.number(max(item.ended for item in requests))
        self.begin_s, self.end_s = self.first * width_s, (self.last + 1) * width_s
        self.middles_s = [(number + 0.5) * width_s for number in range(self.first, self.last + 1)]

    def number(self, mono: float) -> int:
        return math.floor((mono - self.origin_mono) / self.width_s)

    def per_second(self, monos: Iterable[float]) -> list[float]:
        """Return how many of the moments fall into each bin, a second."""
        counted = Counter(self.number(mono) for mono in monos)
        return [counted[number] / self.width_s for number in range(self.first, self.last + 1)]

    def of_each(
        self, pairs: Iterable[tuple[float, float]], value: Callable[[list[float]], float | None]
    ) -> list[float | None]:
        """Return `value` of the values in each bin from pairs (mono, value), and None for a bin without any."""
        held: dict[int, list[float]] = {}
        for mono, figure in pairs:
            held.setdefault(self.number(mono), []).append(figure)
        return [value(held[number]) if number in held else None for number in range(self.first, self.last + 1)]


def _add_traffic(figure: go.Figure, bins: _Bins, requests: Sequence[Request]) -> None:
    failed = [item.ended for item in requests if item.outcome in FAILED]
    series = (
        ("intended", GREY, [item.intended for item in requests], {"dash": "dot", "width": 1}),
        ("succeeded", GREEN, [item.ended for item in requests if item.outcome == "ok"], {"width": 1.5}),
        ("failed", RED, failed, {"width": 1.5}),
    )
    for name, colour, monos, line in series:
        trace = go.Scatter(
            x=bins.middles_s, y=bins.per_second(monos), name=name, mode="lines", legend="legend",
            line={"color": colour, **line}, fill="tozeroy" if name == "failed" else None,
            hovertemplate="%{y:.1f}/s",
        )  # fmt: skip
        figure.add_trace(trace, row=1, col=1)


def _add_latency(figure: go.Figure, bins: _Bins, requests: Sequence[Request]) -> None:
    # a latency of nothing (a clock read twice in one tick) has no place on a logarithmic axis
    pairs = [(item.intended, max(item.latency_s, 1e-4)) for item in requests if item.outcome == "ok"]
    for percent, colour in ((50, BLUE), (95, VIOLET), (99, AMBER)):
        latencies = bins.of_each(pairs, partial(percentile, share=percent / 100))
        trace = go.Scatter(
            x=bins.middles_s, y=latencies, name=f"p{percent}", legend="legend2",
            mode="lines+markers", marker={"size": 3}, line={"color": colour, "width": 1.5}, hovertemplate="%{y:.3f} s",
        )  # fmt: skip
        figure.add_trace(trace, row=2, col=1)
    latencies_s = [latency_s for _, latency_s in pairs] or [0.01, 1.0]
    ticks_s = _log_ticks(min(latencies_s), max(latencies_s))
    ends = [math.log10(ticks_s[0]), math.log10(ticks_s[-1])]
    texts = [f"{tick:g} s" if tick >= 1 else f"{tick * 1000:g} ms" for tick in ticks_s]
    figure.update_yaxes(type="log", tickvals=ticks_s, ticktext=texts, range=ends, row=2, col=1)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round values from at or below `low` to at or above `high`: 1, 2, 5 of a decade, or 1 alone if many."""
    steps = (1, 2, 5) if high / low < 100 else (1,)  # noqa: PLR2004 - beyond two decades there is no room for three
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{step}e{decade}") for decade in decades for step in steps]
    begin = max(number for number, value in enumerate(values) if value <= low)
    end = next(number for number, value in enumerate(values) if value >= high)
    return values[begin : max(end, begin + 1) + 1]


def _add_failed_attempts(figure: go.Figure, bins: _Bins, requests: Sequence[Request]) -> list[str]:
    moments: dict[str, list[float]] = {}
    for item in requests:
        for kind in failed_attempts(item):
            moments.setdefault(kind, []).append(item.ended)
    kinds = sorted(moments, key=lambda kind: -len(moments[kind]))
    shown = [(kind, moments[kind]) for kind in kinds[:KINDS_MAX]]
    if others := [mono for kind in kinds[KINDS_MAX:] for mono in moments[kind]]:
        shown.append((f"{len(kinds) - KINDS_MAX} other kinds", others))
    for (kind, monos), colour in zip(shown, KIND_COLOURS, strict=False):
        # plotly reads names as markup, and these come from whatever the server said
        trace = go.Bar(
            x=bins.middles_s, y=bins.per_second(monos), name=f"{html.escape(kind)} ({len(monos)})", legend="legend3",
            marker={"color": colour, "line": {"width": 0}}, width=bins.width_s, hovertemplate="%{y:.1f}/s",
        )  # fmt: skip
        figure.add_trace(trace, row=3, col=1)
    if not shown:
        # an axis without a trace is not drawn at all
        figure.add_trace(go.Scatter(x=bins.middles_s, y=[0] * len(bins.middles_s), mode="lines", line={"color": GREY},
                                    showlegend=False, hoverinfo="skip"), row=3, col=1)  # fmt: skip
    return kinds


def _levels(marks: Sequence[Mark], range_s: float) -> list[int]:
    """Return the line of text on which each mark's letter stands, so that letters near each other do not overlap."""
    ends: list[float] = []
    levels = []
    for mark in marks:
        level = next((number for number, end in enumerate(ends) if mark.at_s > end), len(ends))
        level = min(level, MARK_LEVELS - 1)
        end = mark.at_s + range_s * 0.06
        ends[level : level + 1] = [end]
        levels.append(level)
    return levels


def _add_to_each_plot(figure: go.Figure, **shape: Any) -> None:  # noqa: ANN401 - plotly's own names of a shape
    """Draw a shape over the height of each plot, and not across the headings between them."""
    for number in ("", "2", "3"):
        figure.add_shape(xref="x", yref=f"y{number} domain", y0=0, y1=1, **shape)


def _add_mark(figure: go.Figure, mark: Mark, level: int) -> None:
    colour = GREEN if mark.good else RED
    line = {"color": colour, "width": 1.5, "dash": "solid" if mark.good else "dash"}
    _add_to_each_plot(figure, type="line", x0=mark.at_s, x1=mark.at_s, line=line)
    figure.add_annotation(
        x=mark.at_s, xref="x", y=1, yref="paper", yanchor="bottom", yshift=2 + level * MARK_LEVEL_PX, showarrow=False,
        text=f"<b>{mark.letter}</b>", font={"size": 11, "color": "#ffffff"}, bgcolor=colour, borderpad=1,
    )  # fmt: skip


def _lay_out(figure: go.Figure, width_s: float, mark_levels: int, *, nothing_failed: bool) -> None:
    drawn_px = sum(PLOT_HEIGHTS) + 2 * GAP_PX
    top_px = GAP_PX + mark_levels * MARK_LEVEL_PX
    headings = (
        f"<b>Operations a second</b> (per {width_s:g} s)",
        "<b>Latency</b>, from the intended start",
        "<b>Failed attempts a second</b>" + (": none" if nothing_failed else ", retried too"),
    )
    edge_px = float(drawn_px)
    for row, (height, heading) in enumerate(zip(PLOT_HEIGHTS, headings, strict=True), start=1):
        above_px = mark_levels * MARK_LEVEL_PX if row == 1 else 0
        figure.update_yaxes(domain=[(edge_px - height) / drawn_px, edge_px / drawn_px], row=row, col=1)
        legend = {"orientation": "h", "x": 0, "xanchor": "left", "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)",
                  "y": (edge_px + above_px + 2) / drawn_px, "font": {"size": 11}, "itemwidth": 30}  # fmt: skip
        if row == len(PLOT_HEIGHTS):
            # its entries are as long as errors are, so it grows downwards where nothing else stands
            legend |= {"y": -44 / drawn_px, "yanchor": "top"}
        figure.update_layout({"legend" if row == 1 else f"legend{row}": legend})
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=edge_px / drawn_px, yref="paper", yanchor="bottom", showarrow=False,
            yshift=above_px + (4 if row == len(PLOT_HEIGHTS) else 26), text=heading, font={"size": 12}, align="left",
        )  # fmt: skip
        edge_px -= height + GAP_PX
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", **({"range": [0, 1]} if nothing_failed else {}), row=3, col=1)
    figure.update_yaxes(automargin=True, fixedrange=True)
    figure.update_xaxes(title={"text": "seconds since the fault", "font": {"size": 12}}, row=3, col=1)
    figure.update_layout(
        template=None, barmode="stack", bargap=0, hovermode="x unified", height=top_px + drawn_px + BOTTOM_PX,
        margin={"l": 44, "r": 12, "t": top_px, "b": BOTTOM_PX},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
    )  # fmt: skip
