import pytest


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A vision-language model with random weights, saved as a user's would be."""
    from tests.tools.language_models.tiny_vision import write_llava

    folder = tmp_path_factory.mktemp("llava")
    write_llava(folder)
    return folder
