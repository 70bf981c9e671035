import hypothesis
import pytest

# A busy machine makes an example slow, not wrong.
hypothesis.settings.register_profile("nbutils", deadline=None)
hypothesis.settings.load_profile("nbutils")
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_addoption(parser):
    why = "leave out the tests that need a Chromium, and say at the end which those were"
    parser.addoption("--no-browser", action="store_true", help=why)


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: needs a Chromium; --no-browser leaves it out")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--no-browser"):
        out = [item for item in items if item.get_closest_marker("browser")]
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=out)
        config.stash[LEFT_OUT] = [item.nodeid for item in out]


def pytest_terminal_summary(terminalreporter, config):
    if left_out := config.stash.get(LEFT_OUT, []):
        terminalreporter.section("left out by --no-browser")
        for name in left_out:
            terminalreporter.line(name)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random base of six layers, in float32."""
    from tests import tiny as make

    return make.in_float32(make.save_base(tmp_path_factory.mktemp("tiny"), make.llama_config()))


@pytest.fixture(scope="session")
def smollm():
    """The shipped base, in float32."""
    from tests import tiny as make

    return make.in_float32()


@pytest.fixture
def one_thread():
    """Small products are slower on many threads, and their sums may differ from run to run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _servers():
    from tests.server import Server

    with Server() as first, Server() as second:
        yield first, second


@pytest.fixture
def server(_servers):
    """A model service on loopback, without memory of the test before."""
    _servers[0].reset()
    return _servers[0]


@pytest.fixture
def other_server(_servers):
    """A second one, at another origin."""
    _servers[1].reset()
    return _servers[1]


@pytest.fixture(scope="session")
def local_server():
    """The address of llama.cpp's server with the shipped base."""
    from tests.local_server import running

    with running() as address:
        yield address
