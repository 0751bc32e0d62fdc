"""Where a tar stream can hurt when it is cut or changed."""

from __future__ import annotations

from resources.protocol.tar import TarWalker


def places(archive: bytes) -> dict[str, int]:
    """Where it can hurt: offsets by what is there."""
    walker = TarWalker()
    for _ in walker.feed(memoryview(archive)):
        pass
    walker.finish()
    found: dict[str, int] = {}
    for i, member in enumerate(walker.members):
        found[f"between members, before {i}"] = member.offset
        found[f"in the name of {i}"] = member.offset + 20
        found[f"in the size of {i}"] = member.offset + 130
        found[f"in the checksum of {i}"] = member.offset + 150
        found[f"in the magic of {i}"] = member.offset + 514
        found[f"in a block of {i}"] = member.offset + 512 + 40
        found[f"in the index of {i}"] = member.offset + 512 + member.size - 60
        found[f"in the last byte of {i}"] = member.offset + 512 + member.size - 1
        if member.size % 512:
            found[f"in the padding of {i}"] = member.offset + 512 + member.size
    found["before the end marker"] = len(archive) - 1024
    found["in the end marker"] = len(archive) - 512
    found["in its last byte"] = len(archive) - 1
    return found
