import hypothesis
import pytest

# A busy machine makes an example slow, not wrong.
hypothesis.settings.register_profile("nbutils", deadline=None)
hypothesis.settings.load_profile("nbutils")


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
