from tests.assets.history.memory import cluster_assets as cluster_assets
from tests.assets.history.memory import history as history
from tests.assets.history.memory import in_memory as in_memory
