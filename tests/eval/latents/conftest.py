"""Small processes whose joint states can all be listed."""

import pytest

from pellucid.data.latent import Latent


@pytest.fixture(scope="session")
def small_language():
    """16 to 32 joint states, 4 symbols."""

    def make(**fields):
        small = {
            "n_symbols": 4,
            "depth": 1,
            "brackets": 1,
            "quotes": 1,
            "topics": 2,
            "modulus": 2,
            "slots": 1,
            "values": 2,
        }
        rates = {"bracket_rate": 0.2, "quote_rate": 0.3, "assign_rate": 0.2, "slip_rate": 0.1}
        return Latent.Config(**small | rates | {"noise": 0.1} | fields)

    return make
