"""Pictures for tests of where they come from."""

from tests.helpers.pictures import data_folder  # noqa: F401
