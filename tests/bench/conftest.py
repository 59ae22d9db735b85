"""Pictures, encoders and hubs for tests of the command line and of sweeps."""

from tests.helpers.pictures import data_folder  # noqa: F401
from tests.helpers.small_encoder import small_encoder  # noqa: F401
from tests.helpers.tiny_vision_suite import tiny_hub, tiny_sweep  # noqa: F401
