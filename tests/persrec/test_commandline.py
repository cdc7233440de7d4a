import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from persrec.commandline import BAD_INPUT, DONE, INTERRUPTED, REGRESSION, UNFORESEEN, Parser, duration, guarded, one_line, whole


def raising(error):
    def function():
        raise error

    return function


def test_what_a_command_returns_is_its_exit_code():
    assert [guarded("me", lambda code=code: code) for code in range(6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("size: 'huge'\nis unknown"), "me: size: 'huge' is unknown\n"),
        (FileNotFoundError(2, "No such file or directory", "there/is.none"), "me: there/is.none: No such file or directory\n"),
        (OSError("disk full"), "me: disk full\n"),
        (RecursionError("maximum recursion depth exceeded"), "me: the input is nested too deep to be read\n"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(error, line, capsys):
    assert guarded("me", raising(error)) == BAD_INPUT
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("given", ["-1", "0", "+1", "1_0", " 2", "2.0", "1e3", "\u0662", "", "x", "101", "9" * 5000])
def test_a_whole_number_is_digits_alone_and_within_its_bounds(given, capsys):
    parser = Parser(prog="me")
    parser.add_argument("--rows", type=whole(1, 100))
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([f"--rows={given}"])
    assert capsys.readouterr().err == f"me: argument --rows: {given!r}; expected a whole number from 1 to 100\n"


def test_a_whole_number_may_be_either_bound():
    assert [whole(1, 100)(given) for given in ("1", "100", "007")] == [1, 100, 7]
    assert whole()("0") == 0


def test_json_that_is_nested_deep_is_bad_input(capsys):
    assert guarded("me", lambda: json.loads("[" * 100_000)) == BAD_INPUT
    assert "nested too deep" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ZeroDivisionError("by 0"), KeyError("cell"), BrokenPipeError(32, "Broken pipe")])
def test_an_unforeseen_error_has_its_own_code_and_a_file_with_the_traceback(error, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert guarded("me", raising(error)) == UNFORESEEN
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    path = lines[0].rpartition(" is in ")[2]
    assert [path] == [str(file) for file in tmp_path.iterdir()]
    assert f"{type(error).__name__}" in lines[0]
    assert "Traceback" in (tmp_path / path).read_text()


def test_without_a_place_for_it_the_traceback_is_on_the_terminal(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert guarded("me", raising(ZeroDivisionError("by 0"))) == UNFORESEEN
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_128_and_the_signal(capsys):
    assert guarded("me", raising(KeyboardInterrupt())) == INTERRUPTED == 128 + 2
    assert capsys.readouterr().err == "me: interrupted\n"


def test_what_argparse_decides_passes(capsys):
    with pytest.raises(SystemExit, match="2"):
        guarded("me", lambda: Parser(prog="me").parse_args(["--no-such"]) and DONE)
    assert capsys.readouterr().err == "me: unrecognized arguments: --no-such\n"


@pytest.mark.parametrize("code", [DONE, REGRESSION])
@pytest.mark.parametrize("flush", [True, False])
def test_a_reader_that_goes_away_changes_no_exit_code(code, flush):
    """Much and little, printed at once or kept until the end."""
    script = f"""
import sys
from persrec.commandline import guarded
def command():
    sys.stdin.read()  # until the reader is gone
    for _ in range(3):
        print("x" * 5, flush={flush})
    return {code}
sys.exit(guarded("me", command))
"""
    command = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    command.stdout.close()
    command.stdin.close()
    assert (command.wait(), command.stderr.read()) == (code, "")
    command.stderr.close()


def test_characters_without_an_encoding_stop_nothing():
    script = "import sys\nfrom persrec.commandline import guarded\nsys.exit(guarded('me', lambda: print('\\u2026 \\udc80') or 0))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=False)
    assert (result.returncode, result.stdout) == (0, b"\\u2026 \\udc80\n")


def test_the_guard_imports_neither_torch_nor_numpy():
    script = "import sys, persrec.commandline; sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_one_line_drops_what_would_steer_a_terminal():
    assert one_line("a\n  b\x1b[31m\tc\x00") == "a b [31m c"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")],
)
def test_durations_as_people_read_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_standard_stream_that_takes_nothing_is_no_regression(stream):
    function = "print('x' * 100_000) or 0" if stream == "stdout" else "{}['missing']"
    code = f"import sys; from persrec.commandline import guarded; sys.exit(guarded('program', lambda: {function}))"
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device, no file
        result = subprocess.run([sys.executable, "-c", code], **{stream: full, "stdin": subprocess.DEVNULL}, check=False)
    assert result.returncode == (2 if stream == "stdout" else 70)
