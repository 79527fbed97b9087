"""Grids on Ray and through submitit, with what really happens to jobs: kills and preemption."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.grids import BASE, children, results, start, write

from pellucid.errors import UserError
from pellucid.storage import provenance
from pellucid.sweep import load_grid, snapshot
from pellucid.sweep.cluster import ClusterEngine
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.run import sweep

RAY, SUBMITIT = (importlib.util.find_spec(name) is not None for name in ("ray", "submitit"))
needs_ray = pytest.mark.skipif(not RAY, reason="the extra `ray` is not installed")
needs_slurm = pytest.mark.skipif(not SUBMITIT, reason="the extra `slurm` is not installed")
RAY_MAIN = "from ray.scripts.scripts import main; main()"
STEPS = 700
LONG = BASE.replace("train.steps=40", f"train.steps={STEPS}").replace("every=3", "every=100")
GOLDEN = Path(__file__).parent / "golden.sbatch"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("local")
    file = write(folder, LONG)
    runner = start(file, folder / "out", "--workers", "2")
    said, _ = runner.communicate(timeout=500)
    assert runner.returncode == 0, said
    return file, folder / "out"


def descendants(pid: int) -> list[int]:
    direct = children(pid)
    return direct + [below for child in direct for below in descendants(child)]


def named(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def half_done(out: Path) -> list[Path]:
    saved = out.glob("cells/*/checkpoints/step-*")
    return [path for path in saved if 100 <= int(path.name.removeprefix("step-")) < STEPS - 300]


def finished_though_killed(runner: subprocess.Popen, above: int, file_out: Path, out: Path) -> None:
    """Kill one of two workers below a process, half-way: the grid is as if nothing had happened."""
    while not half_done(out) and runner.poll() is None:
        time.sleep(0.1)
    workers = [pid for pid in descendants(above) if "ray::run_cell" in named(pid)]
    assert len(workers) == 2, runner.poll()
    os.kill(workers[0], signal.SIGKILL)
    said, _ = runner.communicate(timeout=500)
    assert runner.returncode == 0, said
    assert results(out, STEPS) == results(file_out, STEPS)
    resumed = out.glob("cells/*/metrics.jsonl")
    assert sum('"resume"' in path.read_text() for path in resumed) == 1


@needs_ray
@pytest.mark.slow
def test_ray_finishes_a_grid_one_of_whose_workers_is_killed(undisturbed, tmp_path):
    file, out = undisturbed
    runner = start(file, tmp_path / "out", "--workers", "2", "--engine", "ray")
    finished_though_killed(runner, runner.pid, out, tmp_path / "out")


@pytest.fixture
def head(monkeypatch) -> Iterator[tuple[subprocess.Popen, str]]:
    """A Ray cluster of two CPUs that others have started, and its address."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = f"start --head --block --num-cpus 2 --include-dashboard=false --port {port}"
    words += " --disable-usage-stats"
    process = subprocess.Popen(
        [sys.executable, "-c", RAY_MAIN, *words.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process, f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def answers(head: subprocess.Popen, address: str) -> None:
    """Wait until a cluster that is being started tells of its two CPUs."""
    command = [sys.executable, "-c", RAY_MAIN, "status", "--address", address]
    while head.poll() is None:
        if "/2.0 CPU" in subprocess.run(command, capture_output=True, text=True).stdout:
            return
        time.sleep(0.1)
    raise AssertionError("the cluster ended while it began")


@needs_ray
@pytest.mark.slow
def test_ray_joins_a_cluster_by_its_address_and_leaves_it_running(undisturbed, head, tmp_path):
    (file, out), (cluster, address) = undisturbed, head
    answers(cluster, address)
    runner = start(file, tmp_path / "out", "--engine", "ray", "--address", address)
    # The cells run in the cluster, and not below the runner.
    finished_though_killed(runner, cluster.pid, out, tmp_path / "out")
    assert cluster.poll() is None
    answers(cluster, address)


@needs_ray
@pytest.mark.slow
def test_ray_saves_what_it_is_at_and_runs_the_code_of_the_grid(undisturbed, tmp_path):
    file, out = undisturbed
    grid = load_grid(str(file))
    GridFolder(tmp_path / "out").open(grid, grid.cells())
    snapshot.take(tmp_path / "out" / "code")
    with (tmp_path / "out" / "code" / "pellucid" / "errors.py").open("a") as code:
        code.write("# as it was when the grid was begun\n")
    runner = start(file, tmp_path / "out", "--workers", "2", "--engine", "ray")
    while not half_done(tmp_path / "out") and runner.poll() is None:
        time.sleep(0.1)
    runner.send_signal(signal.SIGTERM)
    said, _ = runner.communicate(timeout=200)
    assert runner.returncode == 75, said
    logs = [path.read_text() for path in (tmp_path / "out" / "logs").iterdir()]
    assert any("saved at step" in log for log in logs)
    run = next((tmp_path / "out" / "cells").iterdir())
    hashed = json.loads((run / "manifest.json").read_text())["source_sha256"]
    assert hashed == provenance.source_hash(tmp_path / "out" / "code" / "pellucid")
    assert (
        hashed != json.loads(next(out.glob("cells/*/manifest.json")).read_text())["source_sha256"]
    )


def engine(file: Path, out: Path, n_cells: int) -> ClusterEngine:
    """The cells of a grid as jobs of submitit's executor of this machine."""
    from pellucid.sweep.on_slurm import SlurmPool

    grid, folder = load_grid(str(file)), GridFolder(out)
    cells = grid.cells()
    folder.open(grid, cells)
    snapshot.take(folder.code)
    about = {"partition": None, "workers": 2, "threads": 1, "gpus": None, "options": ()}
    pool = SlurmPool(folder, cluster="local", name=grid.name, minutes=9, **about)
    told = {"suite": grid.suite, "split": grid.split, "threads": 1}
    return ClusterEngine(folder, cells[:n_cells], pool, **told)


@needs_slurm
@pytest.mark.slow
def test_a_preempted_job_saves_and_goes_back_into_the_queue(undisturbed, tmp_path):
    file, out = undisturbed
    ran, preempted = engine(file, tmp_path / "out", 2), []

    def watch(board):
        if not preempted and half_done(tmp_path / "out"):
            preempted.extend(task.job for task in ran.jobs.values())
            for job in preempted:
                below = descendants(int(job.job_id))
                (task,) = [pid for pid in below if "submitit.core._submit" in named(pid)]
                os.kill(task, signal.SIGUSR2)

    assert ran.run(watch) == 0
    wanted, found = results(out, STEPS), results(tmp_path / "out", STEPS)
    assert len(found) == 2 and found == {name: wanted[name] for name in found}
    assert preempted and not ran.attempts.deaths
    requeued = [job.paths.stdout.read_text() + job.paths.stderr.read_text() for job in preempted]
    assert all("Requeued job" in said for said in requeued)
    logs = [(tmp_path / "out" / "logs" / f"{name}.log").read_text() for name in found]
    assert all("SIGTERM: saved at step" in log for log in logs)


SBATCH = """\
#!/bin/sh
cp "$1" "$FAKE_SLURM/script"
echo "Submitted batch job 4711"
"""
SACCT = "#!/bin/sh\nprintf 'JobID|State|NodeList\\n4711_[0-3]|COMPLETED|n1\\n'\n"
REFUSES = "#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Programs of Slurm's names that keep what they are given."""
    tools = tmp_path / "bin"
    tools.mkdir()
    idle = dict.fromkeys(("srun", "sinfo", "scancel"), "")
    for name, script in {"sbatch": SBATCH, "sacct": SACCT, **idle}.items():
        (tools / name).write_text(script or "#!/bin/sh\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    return tools


@needs_slurm
@pytest.mark.slow
def test_the_script_that_slurm_is_given(slurm, tmp_path, capsys):
    out = tmp_path / "out"
    where = {"engine": "slurm", "partition": "gpu", "gpus": 1, "threads": 4, "workers": 2}
    grid = load_grid(str(write(tmp_path)))
    code = sweep(grid, out, **where, sbatch=["account=lab", "qos=low"], minutes=30)
    # Slurm says that the jobs are over, and there is nothing: three times, then they have failed.
    assert (
        code == 2 and "3 times without getting further: COMPLETED; see" in capsys.readouterr().out
    )
    script = (tmp_path / "script").read_text().replace(str(out.resolve()), "GRID")
    script = script.replace(sys.executable, "PYTHON")
    assert script == GOLDEN.read_text()
    record = json.loads((out / "jobs.json").read_text())
    assert sorted(record.values()) == ["4711_0", "4711_1", "4711_2", "4711_3"]
    syntax = subprocess.run(["bash", "-n", tmp_path / "script"], capture_output=True, text=True)
    assert (syntax.returncode, syntax.stderr) == (0, "")


@needs_slurm
@pytest.mark.slow
def test_what_slurm_refuses_is_one_sentence(slurm, tmp_path):
    (slurm / "sbatch").write_text(REFUSES)
    with pytest.raises(UserError, match=r"^Slurm refused the jobs: .*invalid partition specified"):
        sweep(load_grid(str(write(tmp_path))), tmp_path / "out", engine="slurm", partition="gpu")


def test_the_golden_script_asks_for_what_was_asked():
    """Also where submitit is not installed: what a node is told, line by line."""
    lines = GOLDEN.read_text().splitlines()
    flags = dict(re.fullmatch(r"#SBATCH --([\w-]+)=?(.*)", x).groups() for x in lines if "#S" in x)
    wanted = {"partition": "gpu", "account": "lab", "qos": "low", "time": "30", "array": "0-3%2"}
    wanted |= {"gpus-per-node": "1", "cpus-per-task": "4", "requeue": "", "signal": "USR2@90"}
    assert flags | wanted == flags
    assert "export PYTHONPATH=GRID/code" in lines and "export OMP_NUM_THREADS=4" in lines
