"""What every test run says in its end: what was not tested, why, and how to get it.

`--require-tools` (as `.ci/run` gives) makes a failure of every test that is skipped for want of a program or a package.
Then only tests of a GPU, of what the platform does not allow and of data beside the checkout may be skipped.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Generator
from typing import Final

import pytest
import torch

from mam_video.testing.studio_page import browser_program

# Words of a reason, what they mean, and how to get it. A reason that none of them tells is a tool's too.
_BEYOND: Final = (
    ("no CUDA device", "a GPU", "needs a machine with an NVIDIA GPU"),
    ("no native bfloat16", "bfloat16 on a CPU", "needs a CPU with AVX512-BF16, AMX or Armv8.6"),
    ("no right to mount", "a full disk", "needs Linux and root, to mount a small disk"),
    ("cannot be mounted", "a full disk", "needs Linux and root, to mount a small disk"),
    ("no /sys here", "folders of the system", "needs Linux"),
    ("decord has no wheel", "frames for viewing through decord", "needs Linux on x86-64"),
    ("beside th", "comparisons with the authors' outputs and development clips", "needs ../shared beside the checkout"),
    ("hides its compression", "EXR files put together here", "needs an OpenEXR that shows exr_compress_buffer"),
    ("the extra ray", "shots shared out through Ray", "pip install '.[ray]'"),
    ("not run here", "commands of the texts that fetch or need published weights, or train", "run them by hand"),
    ("../shared", "comparisons with the authors' outputs and development clips", "needs ../shared beside the checkout"),
)
_TOOLS: Final = (
    ("ffmpeg", "comparisons with FFmpeg's own programs", "apt-get install ffmpeg"),
    ("ffprobe", "comparisons with FFmpeg's own programs", "apt-get install ffmpeg"),
    ("chromium", "the report in a browser", "apt-get install chromium"),
)


CUDA_PROMISED: Final = "MAM_VIDEO_EXPECT_CUDA"  # set by `make test-gpu`: a machine without CUDA fails


@pytest.fixture
def cuda() -> torch.device:
    """The GPU. A test that takes it is skipped without one, and fails where one is promised."""
    if not torch.cuda.is_available():
        if os.environ.get(CUDA_PROMISED):
            pytest.fail(f"{CUDA_PROMISED} is set, and PyTorch finds no CUDA device")
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn: what holds on a GPU is run on the CPU as well."""
    return request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-tools", action="store_true", help="fail where a program or a package is missing")


def kind_of(reason: str) -> tuple[bool, str, str]:
    """Whether it may be skipped everywhere, what is not tested, and how to get it; from the reason of a skip."""
    for kinds, beyond in ((_TOOLS, False), (_BEYOND, True)):
        for words, what, how in kinds:
            if words.lower() in reason.lower():
                return beyond, what, how
    return False, reason, "pip install -e '.[dev]', as `make install` does, brings the packages"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(text).removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    """Some tests do less where a program is missing: with --require-tools the run does not begin then."""
    missing = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
    missing += ["chromium"] if browser_program() is None else []
    if config.getoption("--require-tools") and missing:
        raise pytest.UsageError(
            f"--require-tools: missing on the PATH: {', '.join(missing)}; apt-get install ffmpeg chromium"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid(collector.config, report)
    return report


def _forbid(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the skip of a test, or of a whole file, into a failure where a tool is missing."""
    if not config.getoption("--require-tools") or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    beyond, _, how = kind_of(_reason(report))
    if not beyond:
        report.outcome, report.longrepr = "failed", f"skipped, which --require-tools forbids: {_reason(report)}; {how}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    yield  # pytest's own list of skips and failures
    skipped = Counter(kind_of(_reason(report))[1:] for report in terminalreporter.stats.get("skipped", ()))
    if not skipped:
        return
    terminalreporter.section("not tested here")
    for (what, how), count in sorted(skipped.items()):
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.line(f"{what}: {tests} skipped; {how}")
