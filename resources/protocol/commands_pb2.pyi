from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Command(_message.Message):
    __slots__ = ("type", "create_database", "drop_database", "create_retention_policy", "drop_retention_policy", "update_retention_policy", "create_shard_group", "delete_shard_group", "create_continuous_query", "drop_continuous_query", "create_user", "drop_user", "update_user", "set_privilege", "set_data", "set_admin_privilege", "drop_shard", "truncate_shard_groups", "prune_shard_groups", "copy_shard_owner", "remove_shard_owner")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATE_DATABASE_FIELD_NUMBER: _ClassVar[int]
    DROP_DATABASE_FIELD_NUMBER: _ClassVar[int]
    CREATE_RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    DROP_RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    CREATE_SHARD_GROUP_FIELD_NUMBER: _ClassVar[int]
    DELETE_SHARD_GROUP_FIELD_NUMBER: _ClassVar[int]
    CREATE_CONTINUOUS_QUERY_FIELD_NUMBER: _ClassVar[int]
    DROP_CONTINUOUS_QUERY_FIELD_NUMBER: _ClassVar[int]
    CREATE_USER_FIELD_NUMBER: _ClassVar[int]
    DROP_USER_FIELD_NUMBER: _ClassVar[int]
    UPDATE_USER_FIELD_NUMBER: _ClassVar[int]
    SET_PRIVILEGE_FIELD_NUMBER: _ClassVar[int]
    SET_DATA_FIELD_NUMBER: _ClassVar[int]
    SET_ADMIN_PRIVILEGE_FIELD_NUMBER: _ClassVar[int]
    DROP_SHARD_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_SHARD_GROUPS_FIELD_NUMBER: _ClassVar[int]
    PRUNE_SHARD_GROUPS_FIELD_NUMBER: _ClassVar[int]
    COPY_SHARD_OWNER_FIELD_NUMBER: _ClassVar[int]
    REMOVE_SHARD_OWNER_FIELD_NUMBER: _ClassVar[int]
    type: int
    create_database: CreateDatabaseCommand
    drop_database: DropDatabaseCommand
    create_retention_policy: CreateRetentionPolicyCommand
    drop_retention_policy: DropRetentionPolicyCommand
    update_retention_policy: UpdateRetentionPolicyCommand
    create_shard_group: CreateShardGroupCommand
    delete_shard_group: DeleteShardGroupCommand
    create_continuous_query: CreateContinuousQueryCommand
    drop_continuous_query: DropContinuousQueryCommand
    create_user: CreateUserCommand
    drop_user: DropUserCommand
    update_user: UpdateUserCommand
    set_privilege: SetPrivilegeCommand
    set_data: SetDataCommand
    set_admin_privilege: SetAdminPrivilegeCommand
    drop_shard: DropShardCommand
    truncate_shard_groups: TruncateShardGroupsCommand
    prune_shard_groups: PruneShardGroupsCommand
    copy_shard_owner: CopyShardOwnerCommand
    remove_shard_owner: RemoveShardOwnerCommand
    def __init__(self, type: _Optional[int] = ..., create_database: _Optional[_Union[CreateDatabaseCommand, _Mapping]] = ..., drop_database: _Optional[_Union[DropDatabaseCommand, _Mapping]] = ..., create_retention_policy: _Optional[_Union[CreateRetentionPolicyCommand, _Mapping]] = ..., drop_retention_policy: _Optional[_Union[DropRetentionPolicyCommand, _Mapping]] = ..., update_retention_policy: _Optional[_Union[UpdateRetentionPolicyCommand, _Mapping]] = ..., create_shard_group: _Optional[_Union[CreateShardGroupCommand, _Mapping]] = ..., delete_shard_group: _Optional[_Union[DeleteShardGroupCommand, _Mapping]] = ..., create_continuous_query: _Optional[_Union[CreateContinuousQueryCommand, _Mapping]] = ..., drop_continuous_query: _Optional[_Union[DropContinuousQueryCommand, _Mapping]] = ..., create_user: _Optional[_Union[CreateUserCommand, _Mapping]] = ..., drop_user: _Optional[_Union[DropUserCommand, _Mapping]] = ..., update_user: _Optional[_Union[UpdateUserCommand, _Mapping]] = ..., set_privilege: _Optional[_Union[SetPrivilegeCommand, _Mapping]] = ..., set_data: _Optional[_Union[SetDataCommand, _Mapping]] = ..., set_admin_privilege: _Optional[_Union[SetAdminPrivilegeCommand, _Mapping]] = ..., drop_shard: _Optional[_Union[DropShardCommand, _Mapping]] = ..., truncate_shard_groups: _Optional[_Union[TruncateShardGroupsCommand, _Mapping]] = ..., prune_shard_groups: _Optional[_Union[PruneShardGroupsCommand, _Mapping]] = ..., copy_shard_owner: _Optional[_Union[CopyShardOwnerCommand, _Mapping]] = ..., remove_shard_owner: _Optional[_Union[RemoveShardOwnerCommand, _Mapping]] = ...) -> None: ...

class RetentionPolicySpec(_message.Message):
    __slots__ = ("Name", "Duration", "ShardGroupDuration", "ReplicaN")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SHARDGROUPDURATION_FIELD_NUMBER: _ClassVar[int]
    REPLICAN_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Duration: int
    ShardGroupDuration: int
    ReplicaN: int
    def __init__(self, Name: _Optional[str] = ..., Duration: _Optional[int] = ..., ShardGroupDuration: _Optional[int] = ..., ReplicaN: _Optional[int] = ...) -> None: ...

class CreateDatabaseCommand(_message.Message):
    __slots__ = ("Name", "RetentionPolicy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RETENTIONPOLICY_FIELD_NUMBER: _ClassVar[int]
    Name: str
    RetentionPolicy: RetentionPolicySpec
    def __init__(self, Name: _Optional[str] = ..., RetentionPolicy: _Optional[_Union[RetentionPolicySpec, _Mapping]] = ...) -> None: ...

class DropDatabaseCommand(_message.Message):
    __slots__ = ("Name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    Name: str
    def __init__(self, Name: _Optional[str] = ...) -> None: ...

class CreateRetentionPolicyCommand(_message.Message):
    __slots__ = ("Database", "RetentionPolicy", "Default")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    RETENTIONPOLICY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    Database: str
    RetentionPolicy: RetentionPolicySpec
    Default: bool
    def __init__(self, Database: _Optional[str] = ..., RetentionPolicy: _Optional[_Union[RetentionPolicySpec, _Mapping]] = ..., Default: bool = ...) -> None: ...

class DropRetentionPolicyCommand(_message.Message):
    __slots__ = ("Database", "Name")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Name: str
    def __init__(self, Database: _Optional[str] = ..., Name: _Optional[str] = ...) -> None: ...

class UpdateRetentionPolicyCommand(_message.Message):
    __slots__ = ("Database", "Name", "NewName", "Duration", "ReplicaN", "ShardGroupDuration", "Default")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEWNAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    REPLICAN_FIELD_NUMBER: _ClassVar[int]
    SHARDGROUPDURATION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Name: str
    NewName: str
    Duration: int
    ReplicaN: int
    ShardGroupDuration: int
    Default: bool
    def __init__(self, Database: _Optional[str] = ..., Name: _Optional[str] = ..., NewName: _Optional[str] = ..., Duration: _Optional[int] = ..., ReplicaN: _Optional[int] = ..., ShardGroupDuration: _Optional[int] = ..., Default: bool = ...) -> None: ...

class CreateShardGroupCommand(_message.Message):
    __slots__ = ("Database", "Policy", "Timestamp")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Policy: str
    Timestamp: int
    def __init__(self, Database: _Optional[str] = ..., Policy: _Optional[str] = ..., Timestamp: _Optional[int] = ...) -> None: ...

class DeleteShardGroupCommand(_message.Message):
    __slots__ = ("Database", "Policy", "ShardGroupID")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SHARDGROUPID_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Policy: str
    ShardGroupID: int
    def __init__(self, Database: _Optional[str] = ..., Policy: _Optional[str] = ..., ShardGroupID: _Optional[int] = ...) -> None: ...

class CreateContinuousQueryCommand(_message.Message):
    __slots__ = ("Database", "Name", "Query")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Name: str
    Query: str
    def __init__(self, Database: _Optional[str] = ..., Name: _Optional[str] = ..., Query: _Optional[str] = ...) -> None: ...

class DropContinuousQueryCommand(_message.Message):
    __slots__ = ("Database", "Name")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Name: str
    def __init__(self, Database: _Optional[str] = ..., Name: _Optional[str] = ...) -> None: ...

class CreateUserCommand(_message.Message):
    __slots__ = ("Name", "Hash", "Admin")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Hash: str
    Admin: bool
    def __init__(self, Name: _Optional[str] = ..., Hash: _Optional[str] = ..., Admin: bool = ...) -> None: ...

class DropUserCommand(_message.Message):
    __slots__ = ("Name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    Name: str
    def __init__(self, Name: _Optional[str] = ...) -> None: ...

class UpdateUserCommand(_message.Message):
    __slots__ = ("Name", "Hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Hash: str
    def __init__(self, Name: _Optional[str] = ..., Hash: _Optional[str] = ...) -> None: ...

class SetPrivilegeCommand(_message.Message):
    __slots__ = ("Username", "Database", "Privilege")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGE_FIELD_NUMBER: _ClassVar[int]
    Username: str
    Database: str
    Privilege: int
    def __init__(self, Username: _Optional[str] = ..., Database: _Optional[str] = ..., Privilege: _Optional[int] = ...) -> None: ...

class SetDataCommand(_message.Message):
    __slots__ = ("Data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    Data: bytes
    def __init__(self, Data: _Optional[bytes] = ...) -> None: ...

class SetAdminPrivilegeCommand(_message.Message):
    __slots__ = ("Username", "Admin")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    Username: str
    Admin: bool
    def __init__(self, Username: _Optional[str] = ..., Admin: bool = ...) -> None: ...

class DropShardCommand(_message.Message):
    __slots__ = ("ID",)
    ID_FIELD_NUMBER: _ClassVar[int]
    ID: int
    def __init__(self, ID: _Optional[int] = ...) -> None: ...

class TruncateShardGroupsCommand(_message.Message):
    __slots__ = ("Timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    Timestamp: int
    def __init__(self, Timestamp: _Optional[int] = ...) -> None: ...

class PruneShardGroupsCommand(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CopyShardOwnerCommand(_message.Message):
    __slots__ = ("ID", "NodeID")
    ID_FIELD_NUMBER: _ClassVar[int]
    NODEID_FIELD_NUMBER: _ClassVar[int]
    ID: int
    NodeID: int
    def __init__(self, ID: _Optional[int] = ..., NodeID: _Optional[int] = ...) -> None: ...

class RemoveShardOwnerCommand(_message.Message):
    __slots__ = ("ID", "NodeID")
    ID_FIELD_NUMBER: _ClassVar[int]
    NODEID_FIELD_NUMBER: _ClassVar[int]
    ID: int
    NodeID: int
    def __init__(self, ID: _Optional[int] = ..., NodeID: _Optional[int] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("OK", "Error", "Index")
    OK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    OK: bool
    Error: str
    Index: int
    def __init__(self, OK: bool = ..., Error: _Optional[str] = ..., Index: _Optional[int] = ...) -> None: ...
