"""`pellucid bench`: measurements of the trainer, the models and the kernels on this machine."""

from pellucid.errors import EXIT_OK, UserError


def bench(argv: list[str]) -> int:
    """Run one benchmark, which reads its own words."""
    args, words = argv[:1], argv[1:]
    if args == ["train"]:
        from pellucid.experiments import bench_train as bench
    elif args == ["models"]:
        from pellucid.experiments import bench_models as bench
    elif args == ["fillings"]:
        from pellucid.experiments import first_steps as bench
    elif args == ["widths"]:
        from pellucid.experiments import bench_widths as bench
    elif args == ["pack"]:
        from pellucid.experiments import bench_pack as bench
    elif args == ["grids"]:
        from pellucid.experiments import bench_grids as bench
    elif args == ["kernels"]:
        from pellucid.kernels import bench
    elif args in (["-h"], ["--help"]):
        print("usage: pellucid bench train|kernels|models|fillings|widths|pack|grids [word ...]")
        return EXIT_OK
    else:
        raise UserError(
            f"bench {' '.join(args)} is not known; "
            f"expected bench train, kernels, models, fillings, widths, pack or grids"
        )
    return bench.main(words)
