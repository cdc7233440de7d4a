import subprocess
import sys

from fabricated_records import fabricate, slim, write

from benchmarks.cell import Cell
from benchmarks.report import page as report


def test_importing_the_report_is_light_and_rendering_needs_no_torch(tmp_path):
    program = """
import sys
import benchmarks.report.page
assert not {"matplotlib", "jinja2", "pandas"} & set(sys.modules), "loaded before there is anything to draw"
from pathlib import Path
benchmarks.report.page.render_report(Path(sys.argv[1]), Path(sys.argv[2]))
assert "torch" not in sys.modules
light = {f"persrec.{name}" for name in ("names", "declarations", "published", "files", "commandline")}
assert {name for name in sys.modules if name.startswith("persrec.")} == light
"""
    out = write(tmp_path / "results", [slim(fabricate(Cell(backbone="hstu", compression="experts", tokens=4)))])
    done = subprocess.run([sys.executable, "-c", program, str(out), str(tmp_path / "x.html")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_templates_are_package_files():
    assert sorted(path.name for path in report.TEMPLATES.iterdir()) == sorted(["parts.html", "report.css", "report.html", *report.SCRIPTS])
