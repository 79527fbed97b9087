"""What every part of a run shares: the device, the record, and who is let in to be timed."""

import gc
import math
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from pellucid.kernels.bench import ops
from pellucid.kernels.bench.report import Record, table_lines
from pellucid.kernels.bench.shapes import Shape
from pellucid.kernels.bench.timing import Variant, interleaved

COPY = "rates/copy"
LATE = "no time left: give it a larger limit=SECONDS, or fewer shapes or parts"


@dataclass
class Bench:
    """One run on one device."""

    device: torch.device
    rounds: int
    shapes: tuple[Shape, ...]
    record: Record
    dtype: torch.dtype = torch.bfloat16
    ends: float = math.inf
    """When `time.monotonic()` passes this, nothing more is begun."""

    @contextmanager
    def guarded(self, key: str, *, ours: bool = True) -> Iterator[None]:
        """Nothing that goes wrong inside ends the run: it becomes the reason of `key`.

        What is `ours` and neither missing nor too large counts as broken.
        """
        reason = ""
        try:
            yield
        except ops.Missing as missing:
            reason = str(missing)
        except torch.OutOfMemoryError:
            reason = "out of memory"
        except Exception as error:  # noqa: BLE001 - one broken part must not lose the other figures
            reason = f"failed: {' '.join(str(error).split())[:200] or type(error).__name__}"
            traceback.print_exc(file=sys.stderr)
            if ours:
                self.record.broken.append(key)
        if reason:
            self.record.absent(key, reason)
            self.record.save()
            self.free()

    def free(self) -> None:
        """Give back memory that nothing holds."""
        if self.device.type == "cuda":
            gc.collect()
            # A device that has failed says so again here, and in every part that still asks it.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()

    def refused(self, *names: str) -> str:
        """Why these operations are not timed: missing, or wrong; empty where they may be."""
        for name in names:
            if reason := ops.missing(name):
                return reason
            if name in self.record.faults:
                return f"withheld: {name} disagrees with its definition"
        return ""

    def admitted(self, key: str, wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
        """The variants whose operations may be timed; the others' reasons are recorded."""
        names = []
        for name, needs in wanted.items():
            if reason := self.refused(*needs):
                self.record.absent(f"{key}/{name}", reason)
            else:
                names.append(name)
        return names

    def table(
        self,
        key: str,
        variants: Mapping[str, Variant],
        *,
        needs: Mapping[str, tuple[str, ...]] | None = None,
        moved: Mapping[str, int] | None = None,
    ) -> None:
        """Time variants in turns and print the table.

        `needs` names the operations of ours behind a variant (what has none may fail and is only
        absent), `moved` the bytes it must move at least.
        """
        if time.monotonic() > self.ends:
            self.record.absent(key, LATE)
            return
        needs = needs or {}
        names = self.admitted(key, {name: needs.get(name, ()) for name in variants})
        alive = {}
        for name in names:
            with self.guarded(f"{key}/{name}", ours=name in needs):
                _once(variants[name])
                alive[name] = variants[name]
        if alive:
            with self.guarded(key):
                times = interleaved(alive, self.rounds, self.device)
                for name, stages in times.items():
                    self._keep(f"{key}/{name}", stages, (moved or {}).get(name, 0))
        print("\n" + "\n".join(table_lines(self.record, key)), flush=True)
        self.record.save()
        self.free()

    def _keep(self, key: str, stages: Mapping, moved: int) -> None:
        more: dict[str, float] = {}
        if moved:
            more["tb_s"] = moved / stages["whole"][0] / 1e9
            if copy := self.record.number(COPY, "tb_s"):
                more["share"] = more["tb_s"] / copy
        for stage, taken in stages.items():
            if stage == "whole" or len(stages) > 2:
                self.record.time(f"{key}/{stage}", taken, **(more if stage == "whole" else {}))


def _once(stages: Variant) -> None:
    value = 0
    for stage in stages.values():
        value = stage(value)


def single(step) -> Variant:
    """A variant of one stage, given the number of the round."""
    return {"run": step}
