"""Draws the samples of a soak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from tests.soak.samples import MEASURES, Sample, fifth, medians

mpl.use("Agg")

from matplotlib import pyplot as plt  # after the backend is selected


def draw(samples: Sequence[Sample], faults: Sequence[tuple[float, str]], title: str, path: Path) -> None:
    """Draw each measure over time, the medians that are compared, and a tick at the top for each fault."""
    figure, axes = plt.subplots(3, 2, figsize=(11, 8), sharex=True, layout="constrained")
    figure.suptitle(title)
    for plot, (name, measure) in zip(axes.flat, MEASURES.items(), strict=True):
        values = [getattr(sample, name) / measure.unit for sample in samples]
        plot.plot([sample.seconds for sample in samples], values, linewidth=0.9, color="tab:blue")
        for number, middle in zip((2, 5), medians(samples, name), strict=True):
            part = fifth(samples, number)
            ends = part[0].seconds, part[-1].seconds
            plot.axvspan(*ends, color="0.93", zorder=0)
            plot.hlines(middle / measure.unit, *ends, color="tab:red", linewidth=2)
        plot.eventplot(
            [seconds for seconds, _ in faults],
            lineoffsets=0.98,
            linelengths=0.03,
            linewidths=0.5,
            colors="0.4",
            transform=plot.get_xaxis_transform(),
        )
        plot.set_title(measure.title, fontsize="medium", loc="left")
        plot.set_ylim(0, max(values) * 1.15)
        plot.spines[["top", "right"]].set_visible(False)
    for plot in axes[-1]:
        plot.set_xlabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
