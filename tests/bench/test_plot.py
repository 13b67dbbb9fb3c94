"""Pictures show what the report has, all of it, and say which report that is."""

from __future__ import annotations

import itertools
import os
import sys
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import bench_reports

pytest.importorskip("matplotlib")

from vgg_cuda.bench.plot import check_plot, digest, figure, plot, source_digest
from vgg_cuda.bench.plot.parts import looks, series_names
from vgg_cuda.bench.report import Result


def texts(drawn: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in drawn.findobj(Text))


@pytest.mark.parametrize("batches", [(1,), (1, 8), (1, 16, 64, 256)], ids=str)
def test_a_bar_and_a_point_for_every_result(batches: tuple[int, ...]) -> None:
    report = bench_reports.model(batches)
    throughput, latency = figure(report).axes
    timed = [r for r in report.results if r.median_s]
    heights = sorted(bar.get_height() for bars in throughput.containers for bar in _bars(bars))
    assert heights == pytest.approx(sorted(r.batch / r.median_s for r in timed if r.median_s))
    assert throughput.get_ylim()[0] == 0
    points = sorted(float(y) for line in latency.lines for y in line.get_ydata())
    assert points == pytest.approx(sorted(1e3 * (r.median_s or 0) for r in timed))
    assert latency.get_yscale() == "log"
    ends = [max(s[:, 1]) for lines in latency.collections for s in lines.get_segments()]
    assert sorted(ends) == pytest.approx(
        sorted(1e3 * (r.percentiles_s or {})["p99"] for r in timed)
    )


def _bars(container: Any) -> Any:
    from matplotlib.container import BarContainer

    return container if isinstance(container, BarContainer) else []


@pytest.mark.parametrize("count", [5, 6, 12, 40])
@pytest.mark.parametrize("factor", [1, 1000])
def test_labels_of_batches_do_not_overlap(count: int, factor: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = figure(bench_reports.model(tuple(factor * i for i in range(1, count + 1))))
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    for axes in drawn.axes:
        boxes = [label.get_window_extent(canvas.get_renderer()) for label in axes.get_xticklabels()]
        assert len(boxes) >= 5
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    notes = [t for t in drawn.texts if "Throughput: median" in t.get_text()]
    top = notes[0].get_window_extent(canvas.get_renderer()).y1
    below = drawn.axes[0].xaxis.get_tightbbox(canvas.get_renderer())
    assert below is not None
    assert below.y0 > top


@pytest.mark.parametrize("kind", ["kernel", "profile"])
def test_title_names_the_network(kind: str) -> None:
    report = bench_reports.layers(kind)
    report.settings = {"network": "/folder/digits.safetensors"}
    assert "digits.safetensors: layers " in texts(figure(report))


def test_plot_shows_device_date_and_absent_programs() -> None:
    found = texts(figure(bench_reports.model(interrupted=True)))
    assert "vgg16, 224x224, float32" in found
    assert "AMD EPYC, 2 cores  ·  2026-11-28" in found
    assert "Not measured: jax, batch 1, 8: n/a (not installed: pip install jax)" in found
    assert "Interrupted" in found
    for program in bench_reports.PEERS:
        assert program in found


@pytest.mark.parametrize("kind", ["kernel", "profile"])
@pytest.mark.parametrize("peers", [("vgg_cuda",), tuple(bench_reports.PEERS)], ids=len)
def test_a_point_for_every_layer_under_the_roof(kind: str, peers: tuple[str, ...]) -> None:
    report = bench_reports.layers(kind, peers)
    (axes,) = figure(report).axes
    roof = {line.get_gid(): line for line in axes.lines if line.get_gid()}
    series = {line.get_label(): line for line in axes.lines if not line.get_gid()}
    assert set(series) == set(peers)
    for peer, line in series.items():
        results = [r for r in report.results if r.peer == peer and r.flops]
        assert len(results) == len(bench_reports.LAYERS)
        expected = [
            ((r.flops or 0) / (r.bytes or 1), (r.flops or 0) / (r.median_s or 1) / 1e9)
            for r in results
        ]
        assert list(zip(*line.get_data(), strict=True)) == [
            pytest.approx(point) for point in expected
        ]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    x, y = roof["copy"].get_data()
    assert [b / a for a, b in zip(x, y, strict=True)] == pytest.approx([12.0] * len(x))
    assert set(roof["matmul"].get_ydata()) == {110.0}
    assert roof["copy"].get_xdata()[-1] == pytest.approx(110 / 12)
    assert "Without FLOPs, not shown: prob." in texts(axes.figure)


def test_roofline_table_lists_every_layer() -> None:
    report = bench_reports.layers()
    found = texts(figure(report)).split("\n")
    for result in report.results[:-1]:
        assert result.name in found
        assert f"{100 * (result.of_floor or 0):.0f}" in found


@pytest.mark.parametrize("left_out", ["copy", "matmul", "both"])
def test_unmeasured_ceiling_is_not_drawn(left_out: str) -> None:
    report = bench_reports.layers()
    report.ceilings = {k: v for k, v in report.ceilings.items() if left_out not in (k, "both")}
    drawn = figure(report)
    assert {line.get_gid() for line in drawn.axes[0].lines} - {None} == set(report.ceilings)
    assert "A ceiling that was not measured is not drawn" in texts(drawn)


NOTHING = Result(
    name="conv", peer="vgg_cuda", batch=1, dtype="float16", status="failed", reason="no memory"
)


@pytest.mark.parametrize("kind", ["model", "kernel", "profile"])
def test_plot_without_measurements_says_so(kind: str, tmp_path: Path) -> None:
    report = bench_reports.report([NOTHING], kind=kind)
    found = texts(figure(report))
    assert "No result has a time to plot" in found
    assert "failed (no memory)" in found
    plot(report, tmp_path / "p.svg")


@pytest.mark.parametrize("report", [bench_reports.model(), bench_reports.layers()], ids=["m", "k"])
def test_the_same_report_gives_the_same_svg(report: Any, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot(report, tmp_path / name)
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in first
    assert len(first) < 400_000
    xml.etree.ElementTree.fromstring(first)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".PNG"])
def test_a_picture_names_its_report(suffix: str, tmp_path: Path) -> None:
    report, path = bench_reports.model((1,)), tmp_path / f"p{suffix}"
    plot(report, path)
    assert list(tmp_path.iterdir()) == [path]
    assert source_digest(path) == digest(report)
    report.results[0] = replace(report.results[0], load_s=0.8)
    assert source_digest(path) != digest(report)


def test_pngs_are_pictures(tmp_path: Path) -> None:
    plot(bench_reports.layers(), tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == (1600, 928)
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 100


def test_files_without_a_mark_have_no_digest(tmp_path: Path) -> None:
    (tmp_path / "p.svg").write_text("<svg/>")
    assert source_digest(tmp_path / "p.svg") is None


NAMES = {
    "mathematics": "$x_{", "underscore": "_hidden", "escape": "a\x1b[2J", "long": "n" * 500,
    "xml": "<b>&amp;]]>", "no-glyph": "层", "lines": "a\nb", "format": "%s{0}",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_are_shown_as_they_are(name: str, tmp_path: Path) -> None:
    base = bench_reports.model((1,)).results
    report = bench_reports.report([replace(base[0], peer=name), replace(base[1], peer="torch")])
    plot(report, tmp_path / "m.svg")
    kernel = bench_reports.layers().results
    report = bench_reports.report([replace(kernel[0], name=name), *kernel[1:]], kind="kernel")
    plot(report, tmp_path / "k.svg")
    for path in tmp_path.iterdir():
        xml.etree.ElementTree.fromstring(path.read_bytes())


def test_series_names_include_differing_fields() -> None:
    base = bench_reports.model((1,)).results[0]
    both = [base, replace(base, dtype="bfloat16"), replace(base, peer="torch")]
    assert series_names(both) == ["vgg_cuda float32", "vgg_cuda bfloat16", "torch float32"]
    assert len(figure(bench_reports.report(both)).axes[0].containers) == 6  # with error bars


def test_no_two_programs_look_the_same() -> None:
    peers = ["vgg_cuda", "vgg_cuda", "torch", "mine", "yours", "jax"]
    found = looks([f"{i}" for i in range(len(peers))], peers)
    assert len(set(found.values())) == len(peers)
    assert found["0"] == ("#0072B2", "o")


@pytest.mark.parametrize("count", [1, 60])
def test_any_number_of_layers(count: int, tmp_path: Path) -> None:
    base = bench_reports.layers().results[1]
    results = [replace(base, name=f"n{i}-h56-w56-c128-k256") for i in range(count)]
    report = bench_reports.report(results, kind="kernel")
    assert ("and 34 more" in texts(figure(report))) == (count == 60)
    plot(report, tmp_path / "k.svg")


def test_plot_ignores_pyplot_and_user_settings(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    pyplot = "matplotlib.pyplot" in sys.modules
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "axes.facecolor": "black"}):
        plot(bench_reports.model((1,)), tmp_path / "a.svg")
    plot(bench_reports.model((1,)), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_missing_matplotlib_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'plots need matplotlib: pip install "\.\[plot\]"'):
        check_plot(tmp_path / "p.svg")


def test_broken_matplotlib_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise OSError('libfoo.so\\nmissing')\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"matplotlib cannot be imported \(OSError: libfoo.so"):
        check_plot(tmp_path / "p.svg")


def test_unwritable_paths_are_refused(tmp_path: Path) -> None:
    for name in ("p", "p.pdf", "p.json"):
        with pytest.raises(ValueError, match=r"expected a name ending in \.png, \.svg"):
            check_plot(tmp_path / name)
    with pytest.raises(OSError, match="there is no folder"):
        check_plot(tmp_path / "none" / "p.svg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(OSError, match="is a folder"):
        check_plot(tmp_path / "folder.svg")
    os.mkfifo(tmp_path / "pipe.svg")
    with pytest.raises(OSError, match="not a regular file"):
        plot(bench_reports.model((1,)), tmp_path / "pipe.svg")
