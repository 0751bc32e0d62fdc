from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Data(_message.Message):
    __slots__ = ("Term", "Index", "ClusterID", "Nodes", "Databases", "Users", "MaxNodeID", "MaxShardGroupID", "MaxShardID", "DataNodes", "MetaNodes")
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CLUSTERID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    DATABASES_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    MAXNODEID_FIELD_NUMBER: _ClassVar[int]
    MAXSHARDGROUPID_FIELD_NUMBER: _ClassVar[int]
    MAXSHARDID_FIELD_NUMBER: _ClassVar[int]
    DATANODES_FIELD_NUMBER: _ClassVar[int]
    METANODES_FIELD_NUMBER: _ClassVar[int]
    Term: int
    Index: int
    ClusterID: int
    Nodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    Databases: _containers.RepeatedCompositeFieldContainer[DatabaseInfo]
    Users: _containers.RepeatedCompositeFieldContainer[UserInfo]
    MaxNodeID: int
    MaxShardGroupID: int
    MaxShardID: int
    DataNodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    MetaNodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    def __init__(self, Term: _Optional[int] = ..., Index: _Optional[int] = ..., ClusterID: _Optional[int] = ..., Nodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ..., Databases: _Optional[_Iterable[_Union[DatabaseInfo, _Mapping]]] = ..., Users: _Optional[_Iterable[_Union[UserInfo, _Mapping]]] = ..., MaxNodeID: _Optional[int] = ..., MaxShardGroupID: _Optional[int] = ..., MaxShardID: _Optional[int] = ..., DataNodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ..., MetaNodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ...) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("ID", "Addr", "TCPAddr")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    TCPADDR_FIELD_NUMBER: _ClassVar[int]
    ID: int
    Addr: str
    TCPAddr: str
    def __init__(self, ID: _Optional[int] = ..., Addr: _Optional[str] = ..., TCPAddr: _Optional[str] = ...) -> None: ...

class DatabaseInfo(_message.Message):
    __slots__ = ("Name", "DefaultRetentionPolicy", "RetentionPolicies", "ContinuousQueries")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULTRETENTIONPOLICY_FIELD_NUMBER: _ClassVar[int]
    RETENTIONPOLICIES_FIELD_NUMBER: _ClassVar[int]
    CONTINUOUSQUERIES_FIELD_NUMBER: _ClassVar[int]
    Name: str
    DefaultRetentionPolicy: str
    RetentionPolicies: _containers.RepeatedCompositeFieldContainer[RetentionPolicyInfo]
    ContinuousQueries: _containers.RepeatedCompositeFieldContainer[ContinuousQueryInfo]
    def __init__(self, Name: _Optional[str] = ..., DefaultRetentionPolicy: _Optional[str] = ..., RetentionPolicies: _Optional[_Iterable[_Union[RetentionPolicyInfo, _Mapping]]] = ..., ContinuousQueries: _Optional[_Iterable[_Union[ContinuousQueryInfo, _Mapping]]] = ...) -> None: ...

class RetentionPolicyInfo(_message.Message):
    __slots__ = ("Name", "Duration", "ShardGroupDuration", "ReplicaN", "ShardGroups", "Subscriptions", "FutureWriteLimit", "PastWriteLimit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SHARDGROUPDURATION_FIELD_NUMBER: _ClassVar[int]
    REPLICAN_FIELD_NUMBER: _ClassVar[int]
    SHARDGROUPS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    FUTUREWRITELIMIT_FIELD_NUMBER: _ClassVar[int]
    PASTWRITELIMIT_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Duration: int
    ShardGroupDuration: int
    ReplicaN: int
    ShardGroups: _containers.RepeatedCompositeFieldContainer[ShardGroupInfo]
    Subscriptions: _containers.RepeatedCompositeFieldContainer[SubscriptionInfo]
    FutureWriteLimit: int
    PastWriteLimit: int
    def __init__(self, Name: _Optional[str] = ..., Duration: _Optional[int] = ..., ShardGroupDuration: _Optional[int] = ..., ReplicaN: _Optional[int] = ..., ShardGroups: _Optional[_Iterable[_Union[ShardGroupInfo, _Mapping]]] = ..., Subscriptions: _Optional[_Iterable[_Union[SubscriptionInfo, _Mapping]]] = ..., FutureWriteLimit: _Optional[int] = ..., PastWriteLimit: _Optional[int] = ...) -> None: ...

class ShardGroupInfo(_message.Message):
    __slots__ = ("ID", "StartTime", "EndTime", "DeletedAt", "Shards", "TruncatedAt")
    ID_FIELD_NUMBER: _ClassVar[int]
    STARTTIME_FIELD_NUMBER: _ClassVar[int]
    ENDTIME_FIELD_NUMBER: _ClassVar[int]
    DELETEDAT_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATEDAT_FIELD_NUMBER: _ClassVar[int]
    ID: int
    StartTime: int
    EndTime: int
    DeletedAt: int
    Shards: _containers.RepeatedCompositeFieldContainer[ShardInfo]
    TruncatedAt: int
    def __init__(self, ID: _Optional[int] = ..., StartTime: _Optional[int] = ..., EndTime: _Optional[int] = ..., DeletedAt: _Optional[int] = ..., Shards: _Optional[_Iterable[_Union[ShardInfo, _Mapping]]] = ..., TruncatedAt: _Optional[int] = ...) -> None: ...

class ShardInfo(_message.Message):
    __slots__ = ("ID", "OwnerIDs", "Owners")
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNERIDS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    ID: int
    OwnerIDs: _containers.RepeatedScalarFieldContainer[int]
    Owners: _containers.RepeatedCompositeFieldContainer[ShardOwner]
    def __init__(self, ID: _Optional[int] = ..., OwnerIDs: _Optional[_Iterable[int]] = ..., Owners: _Optional[_Iterable[_Union[ShardOwner, _Mapping]]] = ...) -> None: ...

class ShardOwner(_message.Message):
    __slots__ = ("NodeID",)
    NODEID_FIELD_NUMBER: _ClassVar[int]
    NodeID: int
    def __init__(self, NodeID: _Optional[int] = ...) -> None: ...

class SubscriptionInfo(_message.Message):
    __slots__ = ("Name", "Mode", "Destinations")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    DESTINATIONS_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Mode: str
    Destinations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, Name: _Optional[str] = ..., Mode: _Optional[str] = ..., Destinations: _Optional[_Iterable[str]] = ...) -> None: ...

class ContinuousQueryInfo(_message.Message):
    __slots__ = ("Name", "Query")
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Query: str
    def __init__(self, Name: _Optional[str] = ..., Query: _Optional[str] = ...) -> None: ...

class UserInfo(_message.Message):
    __slots__ = ("Name", "Hash", "Admin", "Privileges")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    Name: str
    Hash: str
    Admin: bool
    Privileges: _containers.RepeatedCompositeFieldContainer[UserPrivilege]
    def __init__(self, Name: _Optional[str] = ..., Hash: _Optional[str] = ..., Admin: bool = ..., Privileges: _Optional[_Iterable[_Union[UserPrivilege, _Mapping]]] = ...) -> None: ...

class UserPrivilege(_message.Message):
    __slots__ = ("Database", "Privilege")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGE_FIELD_NUMBER: _ClassVar[int]
    Database: str
    Privilege: int
    def __init__(self, Database: _Optional[str] = ..., Privilege: _Optional[int] = ...) -> None: ...

class PortableData(_message.Message):
    __slots__ = ("Data", "MaxNodeID")
    DATA_FIELD_NUMBER: _ClassVar[int]
    MAXNODEID_FIELD_NUMBER: _ClassVar[int]
    Data: bytes
    MaxNodeID: int
    def __init__(self, Data: _Optional[bytes] = ..., MaxNodeID: _Optional[int] = ...) -> None: ...
