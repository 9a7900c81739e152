"""The sections of a shard file, as Sources/Archive/Archive.docc/Format.md lays them out."""

import struct
from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import takewhile

MAGIC = b"FPK\x1a"
HEADER_BYTES, FOOTER_BYTES, BLOCK_HEADER_BYTES = 64, 72, 32
FLOW, STORED = 0, 1


@dataclass(frozen=True)
class Block:
    """What the header of a block says."""

    kind: int
    continues: bool  # the image of the block before
    count: int
    width: int
    height: int
    payload: bytes


@dataclass(frozen=True)
class Shard:
    """The blocks of a shard file, the number of its samples and the bytes of its index."""

    blocks: list
    samples: int
    index_bytes: int

    @classmethod
    def parse(cls, data):
        """The sections of a whole file; ValueError when they do not add up."""
        if data[:4] != MAGIC or data[-4:] != MAGIC[::-1]:
            raise ValueError("no shard file")
        footer = len(data) - FOOTER_BYTES
        index, index_bytes, count, samples = struct.unpack_from("<QQII", data, footer)
        blocks, end = [], HEADER_BYTES
        for n in range(count):
            blocks.append(parse_block(data, index + BLOCK_HEADER_BYTES * n, end))
            end += BLOCK_HEADER_BYTES + len(blocks[-1].payload)
        if end != index or index + index_bytes != footer:
            raise ValueError("the sections of the shard file do not follow each other")
        return cls(blocks, samples, index_bytes)

    @property
    def payload_bytes(self):
        """Bytes of all payloads: coded pixels and stored files."""
        return sum(len(b.payload) for b in self.blocks)

    @property
    def record_bytes(self):
        """Bytes of the index but the copies of the block headers."""
        return self.index_bytes - BLOCK_HEADER_BYTES * len(self.blocks)

    def coded_images(self, samples):
        """(block, names of its images, first row of them that it holds) of every flow block.

        `samples` are the shard's, as `flowpack ls` describes them. Images of one size are in blocks
        in their order.
        """
        waiting = defaultdict(deque)
        for sample in samples:
            if sample["mode"] == "flow":
                waiting[sample["width"], sample["height"]].append(sample["name"])
        blocks = [b for b in self.blocks if b.kind == FLOW]
        for n, block in enumerate(blocks):
            if block.continues:
                row += blocks[n - 1].height
            else:
                bands = takewhile(lambda b: b.continues, blocks[n + 1 :])
                height = block.height + sum(b.height for b in bands)
                row, names = 0, [waiting[block.width, height].popleft() for _ in range(block.count)]
            yield block, names, row


def parse_block(data, header, place):
    """The block of a header in the index, its payload behind the copy of the header at `place`."""
    kind, continues, _, count, width, height, size = struct.unpack_from("<BBHIIIQ", data, header)
    begin = place + BLOCK_HEADER_BYTES
    return Block(kind, bool(continues), count, width, height, data[begin : begin + size])
