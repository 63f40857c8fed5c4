"""Plotly figures of a comparison, for its page and its report: one description, coloured by whoever draws it."""

from __future__ import annotations

from typing import Any

ROW, FRAME = 44, 64
"""Pixels of a row, and around all of them."""
LEGEND_ROW = 19
"""Pixels of a name in a legend; on a phone each has a line of its own."""
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B58900", "#56B4E9")
"""Okabe-Ito, as on every page."""
GREY = "#69727C"
COLOURS = {"better": "#1A7441", "worse": "#B3261E"}


def forest(evidence: dict[str, Any]) -> dict[str, Any]:
    """Differences with their intervals, one row a finding, 0 marked."""
    found = list(reversed(evidence["findings"]))
    rows = [f"{escaped(one['candidate'])}<br>− {escaped(one['baseline'])}" for one in found]
    points = [one["difference"]["difference"] for one in found]
    intervals = [one["difference"]["interval"] for one in found]
    colours = [COLOURS.get(one["verdict"]["word"], GREY) for one in found]
    hover = [
        f"{one['verdict']['word']}: {point:+.4f} [{interval['low']:+.4f}, {interval['high']:+.4f}], "
        f"p {one['p_corrected']:.3g} (corrected)"
        for one, point, interval in zip(found, points, intervals, strict=True)
    ]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": points,
        "y": rows,
        "text": [escaped(text) for text in hover],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 9, "color": colours},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [one["high"] - at for one, at in zip(intervals, points, strict=True)],
            "arrayminus": [at - one["low"] for one, at in zip(intervals, points, strict=True)],
            "thickness": 1.5,
            "width": 5,
        },
    }
    layout = {
        "height": ROW * len(rows) + FRAME,
        "margin": {"l": 8, "r": 16, "t": 8, "b": 40},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": {
            "title": {
                "text": f"difference in {escaped(evidence['scorer'])}",
                "font": {"size": 12},
            },
            "zeroline": True,
            "zerolinewidth": 1.5,
            "rangemode": "tozero",
            "fixedrange": True,
            "tickformat": "~g",
        },
        "yaxis": {"automargin": True, "fixedrange": True, "type": "category"},
    }
    return {"data": [trace], "layout": layout}


def passes(evidence: dict[str, Any]) -> dict[str, Any] | None:
    """pass@k over k with intervals; None where no arm has several samples a prompt."""
    if not evidence["passes"]:
        return None
    places = {arm["name"]: at for at, arm in enumerate(evidence["arms"])}
    traces = []
    for curve in evidence["passes"]:
        points, colour = curve["points"], SERIES[places[curve["arm"]] % len(SERIES)]
        ks = [point["k"] for point in points]
        low = [point["interval"]["low"] for point in points]
        high = [point["interval"]["high"] for point in points]
        traces += [
            {
                "type": "scatter",
                "x": [*ks, *reversed(ks)],
                "y": [*high, *reversed(low)],
                "fill": "toself",
                "mode": "none",
                "fillcolor": _faint(colour),
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escaped(curve["arm"]),
                "x": ks,
                "y": [point["estimate"] for point in points],
                "line": {"color": colour, "width": 2},
                "customdata": list(zip(low, high, strict=True)),
                "hovertemplate": "%{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
            },
        ]
    layout = {
        "height": 252 + LEGEND_ROW * len(evidence["passes"]),
        "margin": {"l": 48, "r": 16, "t": 8, "b": 40},
        "hovermode": "x unified",
        "dragmode": False,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        "xaxis": {
            "title": {"text": "k samples"},
            "type": "log",
            "fixedrange": True,
            "tickvals": [point["k"] for point in evidence["passes"][0]["points"]],
        },
        "yaxis": {"title": {"text": "pass@k"}, "fixedrange": True, "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def escaped(text: str) -> str:
    """Plotly reads a little HTML in texts, and an arm's name is anybody's."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.14)"
