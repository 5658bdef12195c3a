"""The reliability diagram of both heads, and their F1 by threshold, as one HTML page that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipeline.io.storage import write_atomically

COLOURS = {"should_update_dst": "#c2410c", "when_to_speak": "#1d4ed8"}


def write_reliability(
    path: Path, by_head: Mapping[str, Any], curves: Mapping[str, Sequence[float]], grid: Sequence[float]
) -> None:
    """Write the page.

    Args:
        by_head: of `thresholds.reliability`, of one head or both.
        curves: F1 at each threshold of `grid`, of each head that has events.
    """
    titles = ("Reliability: share of positives by probability", "Event F1 by threshold (other head as the reference)")
    figure = make_subplots(1, 2, subplot_titles=titles)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="perfect", line={"dash": "dot", "color": "grey"})
    for head in by_head:
        bins, colour = by_head[head]["bins"], COLOURS[head]
        name = f"{head} (calibration error {by_head[head]['ece']:.3f})"
        figure.add_scatter(
            x=[mean for mean, _, _ in bins],
            y=[share for _, share, _ in bins],
            text=[f"{count} decisions" for _, _, count in bins],
            mode="lines+markers",
            name=name,
            line={"color": colour},
        )
        if head in curves:
            line = go.Scatter(x=list(grid), y=list(curves[head]), name=head, line={"color": colour}, showlegend=False)
            figure.add_trace(line, 1, 2)
    figure.update_xaxes(range=[0, 1], title="probability", row=1, col=1)
    figure.update_yaxes(range=[0, 1.02], title="share of positives", row=1, col=1)
    figure.update_xaxes(range=[0, 1], title="threshold", row=1, col=2)
    figure.update_yaxes(range=[0, 1.02], title="F1", row=1, col=2)
    figure.update_layout(template="plotly_white", height=520, legend={"orientation": "h", "y": -0.2})
    write_atomically(path, figure.to_html(include_plotlyjs=True).encode())
