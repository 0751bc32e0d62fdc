from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class WriteShardRequest(_message.Message):
    __slots__ = ("ShardID", "Database", "RetentionPolicy")
    SHARDID_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    RETENTIONPOLICY_FIELD_NUMBER: _ClassVar[int]
    ShardID: int
    Database: str
    RetentionPolicy: str
    def __init__(self, ShardID: _Optional[int] = ..., Database: _Optional[str] = ..., RetentionPolicy: _Optional[str] = ...) -> None: ...

class ExecuteStatementRequest(_message.Message):
    __slots__ = ("Statement", "Database")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    Statement: str
    Database: str
    def __init__(self, Statement: _Optional[str] = ..., Database: _Optional[str] = ...) -> None: ...

class CodeResponse(_message.Message):
    __slots__ = ("Code", "Message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    Code: int
    Message: str
    def __init__(self, Code: _Optional[int] = ..., Message: _Optional[str] = ...) -> None: ...

class BackupShardRequest(_message.Message):
    __slots__ = ("ShardID", "Since")
    SHARDID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    ShardID: int
    Since: int
    def __init__(self, ShardID: _Optional[int] = ..., Since: _Optional[int] = ...) -> None: ...

class CopyShardRequest(_message.Message):
    __slots__ = ("Host", "Database", "Policy", "ShardID", "Since")
    HOST_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SHARDID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    Host: str
    Database: str
    Policy: str
    ShardID: int
    Since: int
    def __init__(self, Host: _Optional[str] = ..., Database: _Optional[str] = ..., Policy: _Optional[str] = ..., ShardID: _Optional[int] = ..., Since: _Optional[int] = ...) -> None: ...

class RemoveShardRequest(_message.Message):
    __slots__ = ("ShardID",)
    SHARDID_FIELD_NUMBER: _ClassVar[int]
    ShardID: int
    def __init__(self, ShardID: _Optional[int] = ...) -> None: ...

class ErrResponse(_message.Message):
    __slots__ = ("Err",)
    ERR_FIELD_NUMBER: _ClassVar[int]
    Err: str
    def __init__(self, Err: _Optional[str] = ...) -> None: ...

class ListShardsResponse(_message.Message):
    __slots__ = ("Shards", "Err")
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    ERR_FIELD_NUMBER: _ClassVar[int]
    Shards: bytes
    Err: str
    def __init__(self, Shards: _Optional[bytes] = ..., Err: _Optional[str] = ...) -> None: ...
