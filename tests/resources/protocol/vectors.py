"""Bytes of real exchanges with InfluxDB 1.6.7 and its tools, and one made by hand."""

from __future__ import annotations

REQUEST_METASTORE = (
    b"\x03\x01"
    b'{"Type":1,"BackupDatabase":"","RestoreDatabase":"","BackupRetentionPolicy":"",'
    b'"RestoreRetentionPolicy":"","ShardID":0,"Since":"0001-01-01T00:00:00Z",'
    b'"ExportStart":"0001-01-01T00:00:00Z","ExportEnd":"0001-01-01T00:00:00Z","UploadSize":0}\n'
)
"""What `influxd backup -portable` sends for the metastore."""

REQUEST_SHARD = (
    b"\x03\x00"
    b'{"Type":0,"BackupDatabase":"other","RestoreDatabase":"","BackupRetentionPolicy":"autogen",'
    b'"RestoreRetentionPolicy":"","ShardID":6,"Since":"2020-01-02T03:04:05Z",'
    b'"ExportStart":"0001-01-01T00:00:00Z","ExportEnd":"0001-01-01T00:00:00Z","UploadSize":0}\n'
)
"""What `influxd backup -portable -since 2020-01-02T03:04:05Z` sends for shard 6."""

METASTORE_REPLY = bytes.fromhex("""
    00000000595901010000000000000135
    0800100a18babceba5ab90929b772ad6
    010a0874656c65677261661207617574
    6f67656e1a700a076175746f67656e10
    00188080a4c9ffc1890120012a1c0801
    108080c085bae9959916188080e4ceb9
    ab9f9a1620002a0208012a1c08021080
    80e4ceb9ab9f9a161880808898b9eda8
    9b1620002a0208022a1c080310808088
    98b9eda89b16188080ace1b8afb29c16
    20002a0208031a4f0a0573686f727410
    00188080bc8ac9d21320012a1c080410
    8080f4a495e1d09916188080b0afdeb3
    e4991620002a0208042a1c0805108080
    b0afdeb3e49916188080ecb9a786f899
    1620002a0208052a460a056f74686572
    12076175746f67656e1a340a07617574
    6f67656e1000188080a4c9ffc1890120
    012a1c0806108080c085bae995991618
    8080e4ceb9ab9f9a1620002a02080638
    004006480600000000000000056e756c
    6c0a
""")
"""A whole answer of influxd 1.6.7: telegraf with two policies, other with one; six shards."""

METASTORE = METASTORE_REPLY[16:325]
PORTABLE = b"\x0a\xb5\x02" + METASTORE + b"\x10\x00"
"""The `.meta` file that `influxd backup -portable` made of it."""

CLUSTER_METASTORE = bytes.fromhex("""
    080210091805 2a3e 0a0164 120172 1a36
    0a0172 1000 188080a4c9ffc18901 2002
    2a24 0801 108080c085bae9959916 188080e4ceb9ab9f9a16 2000 2a0a 0801 1a020804 1a020805
    3805 4001 4801
    5212 0804 1206613a38303836 1a06613a38303838
    5212 0805 1206623a38303836 1a06623a38303838
    5a12 0801 12066d3a38303931 1a066d3a38303839
""")
"""By hand: database d, policy r, one shard of two owners, two data nodes and a meta node."""

ID_MAP = bytes.fromhex("0000000059590101 0000000000000001 0000000000000006 0000000000000016")
ID_MAP_REFUSED = bytes.fromhex("0000000059590101 0000000000000000")
ID_MAP_FIVE = bytes.fromhex(
    "0000000059590101 0000000000000005"
    "0000000000000005 0000000000000010 0000000000000001 000000000000000c"
    "0000000000000002 000000000000000d 0000000000000003 000000000000000e"
    "0000000000000004 000000000000000f"
)
"""Pairs come in no order."""

UPLOAD_HEAD = bytes.fromhex("03 07 0000000000000035")
