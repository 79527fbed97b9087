"""`kernels/` steps aside for Hugging Face's package when it is found by its bare name."""

import os
import subprocess
import sys
from pathlib import Path

import pellucid

ROOT = Path(pellucid.__file__).parent


def import_kernels_from_root(*extra, code):
    search = os.pathsep.join([*map(str, extra), str(ROOT.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_alone_it_is_a_version_and_nothing_heavy():
    code = "import kernels, sys; print(kernels.__version__, 'torch' in sys.modules)"
    assert import_kernels_from_root(code=code) == "0.0.0 False"


def test_the_other_package_wins_where_it_is_installed(tmp_path):
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("def get_kernel():\n    return 'theirs'\n")
    (package / "extra.py").write_text("NAME = 'their submodule'\n")
    code = (
        "from kernels import get_kernel; import kernels.extra, sys;"
        "print(get_kernel(), kernels.extra.NAME, 'torch' in sys.modules)"
    )
    assert import_kernels_from_root(tmp_path, code=code) == "theirs their submodule False"


def test_ours_keeps_its_full_name(tmp_path):
    code = "import pellucid.kernels as k; print(sorted(k.__all__))"
    expected = (
        "['encode_topk', 'path', 'sddmm', 'sparse_decode', 'topk_mlp', 'topk_rows', 'weight_topk_']"
    )
    assert import_kernels_from_root(tmp_path, code=code) == expected
