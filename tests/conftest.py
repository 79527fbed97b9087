"""One thread, a cache of its own, checked shapes; and what the summary says at the end."""

import os

# Before torch is imported: two workers of one thread each fill two cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import torch

if not torch.cuda.is_available():
    # Before triton is imported: without a GPU its kernels run in its interpreter.
    os.environ["TRITON_INTERPRET"] = "1"

import hypothesis
import pytest
from support.shapes import check_shapes

# Before anything of pellucid is imported.
check_shapes("pellucid")

NO_PAGES = "page tests need a browser"

hypothesis.settings.register_profile(
    "pellucid", derandomize=True, deadline=None, database=None, print_blob=True
)
hypothesis.settings.load_profile("pellucid")


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """Token caches go to a temporary folder, also in the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_terminal_summary(terminalreporter) -> None:
    """Name the slow tests that ran, and say when the tests of the pages did not."""
    stats = terminalreporter.stats
    ran = [r for kind in ("passed", "failed") for r in stats.get(kind, []) if "slow" in r.keywords]
    if ran:
        terminalreporter.section("slow tests, in `make test-all` only")
        for report in sorted(ran, key=lambda report: report.nodeid):
            terminalreporter.line(f"{report.outcome} {report.duration:6.1f} s  {report.nodeid}")
    skipped = {str(report.longrepr[-1]) for report in stats.get("skipped", [])}
    for reason in sorted(reason for reason in skipped if NO_PAGES in reason):
        terminalreporter.section("the tests of the pages did not run")
        terminalreporter.line(reason, yellow=True)
