"""Read InfluxDB 1.x backups as data: `import shardkeeper`; see docs/python.md.

backup = shardkeeper.open("/srv/backups")
frame = backup.frame("telegraf", "cpu", "2026-11-01", "2026-11-02", where={"host": "web-1"})
"""

from resources.api.backup import Backup, PointsLeftOut
from resources.api.backup import open_backup as open
from resources.api.contents import Measurement, Shard
from resources.errors import ShardkeeperError
from resources.points.strings import PointsNotText
from resources.version import VERSION as __version__

__all__ = [
    "Backup",
    "Measurement",
    "PointsLeftOut",
    "PointsNotText",
    "Shard",
    "ShardkeeperError",
    "__version__",
    "open",
]
