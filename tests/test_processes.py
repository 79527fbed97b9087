"""One run on other numbers of processes than began it, and on two hosts, equal in float64."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.training import DRIVER, SMALL, assert_same_training, finish, launch, small

from pellucid import checkpoint
from pellucid.run import RunFolder
from pellucid.train import train

EXACT = ["train.precision=fp64", "dropout=0.0", "train.steps=50", "train.eval_every=50"]
STOPPED = 23


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exact") / "one"
    assert train(small(*EXACT), folder) == 0
    return folder


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def half(request, tmp_path_factory) -> Path:
    """A run that two processes were stopped in."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    words = [*EXACT, f"train.parallel={request.param}", "train.world_size=2"]
    code, out = finish(launch(folder, "step", STOPPED, *words, processes=2))
    assert code != 0 and "SIGTERM: saved at step" in out, out
    saved = checkpoint.load(checkpoint.latest(folder / "checkpoints"))
    assert STOPPED <= saved.step < 50 and len(saved.rng) == saved.meta["world_size"] == 2
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 4])
def test_what_two_processes_saved_one_and_four_continue(half, exact, tmp_path, processes):
    shutil.copytree(half, tmp_path / "run")
    words = [*EXACT, f"train.world_size={processes}"]
    code, out = finish(launch(tmp_path / "run", "-", 0, *words, processes=processes))
    assert code == 0 and f"2 processes saved this run and {processes} continue it" in out, out
    assert_same_training(exact, tmp_path / "run")
    events = [r for r in RunFolder(tmp_path / "run").read_metrics() if r.get("event") == "resume"]
    assert len(events) == 1


def ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Two network namespaces joined by a cable: {name: (address, interface)}."""
    if shutil.which("ip") is None:
        pytest.skip("two hosts need network namespaces: there is no program `ip`")
    a, b = (f"pellucid{os.getpid()}{end}" for end in "ab")
    cable = [f"pl{os.getpid()}{end}" for end in "ab"]
    try:
        for host in (a, b):
            if (done := ip("netns", "add", host)).returncode:
                pytest.skip(f"two hosts need network namespaces: {done.stderr.strip()}")
        assert not ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1]).returncode
        for host, end, address in zip((a, b), cable, ("10.77.0.1", "10.77.0.2"), strict=True):
            ip("link", "set", end, "netns", host)
            ip("-n", host, "addr", "add", f"{address}/24", "dev", end)
            for device in ("lo", end):
                assert not ip("-n", host, "link", "set", device, "up").returncode
        yield {a: ("10.77.0.1", cable[0]), b: ("10.77.0.2", cable[1])}
    finally:
        for host in (a, b):
            ip("netns", "del", host)


def on_host(host: str, address: str, interface: str, folder: Path, *words: str):
    """One of the two hosts of a run, which meet at the first one's address."""
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
    command += ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "10.77.0.1:29511", "--rdzv-id", "pair", "--local-addr", address]
    # Both have the name of this machine, from which torchrun would guess who keeps the store.
    command += ["--rdzv-conf", f"is_host={int(address == '10.77.0.1')}"]
    return subprocess.Popen(
        [*command, str(DRIVER), str(folder), "-", "0", *SMALL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"GLOO_SOCKET_IFNAME": interface},
    )


@pytest.mark.slow
def test_two_hosts_equal_one_process(hosts, exact, tmp_path):
    words = [*EXACT, "train.world_size=2"]
    both = [
        on_host(host, address, interface, tmp_path / "run", *words)
        for host, (address, interface) in hosts.items()
    ]
    said = [finish(process) for process in both]
    assert [code for code, _ in said] == [0, 0], said
    assert_same_training(exact, tmp_path / "run")
