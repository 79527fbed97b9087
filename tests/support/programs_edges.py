"""Which part of a compiled program a weight belongs to."""

from support.programs import Program

READS = ("w_q", "w_k", "w_v", "w_in", "w_enc")


def part_of(program: Program, edge: dict) -> tuple[str, int]:
    """The head or neuron that a weight belongs to."""
    site, _, unit = edge["target" if edge["through"] in READS else "source"].rpartition(":")
    if ".attention" not in site:
        return site, int(unit)
    d_head = program.model.blocks[0].attention.d_head
    return site.rpartition(".")[0], int(unit) // d_head
