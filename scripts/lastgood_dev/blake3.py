"""What is the BLAKE3 of a few kilobytes, on a machine that has no `b3sum`? Slow, and for the demo alone."""

from __future__ import annotations

Words = tuple[int, ...]
Output = tuple[Words, Words, int, int, int]  # chaining value, block, counter, length, flags: what `_compress` takes

IV: Words = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
ROUNDS = 7
CHUNK_BYTES, BLOCK_BYTES = 1024, 64
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def blake3(data: bytes) -> str:
    """Returns the hash in hex, as `b3sum` prints it."""
    chaining, block, _, length, flags = _output(data, 0)
    words = _compress(chaining, block, 0, length, flags | ROOT)
    return b"".join(word.to_bytes(4, "little") for word in words).hex()


def _output(data: bytes, chunk: int) -> Output:
    """Returns what a subtree's root compresses; `chunk` is the number of its first chunk."""
    chunks = -(-len(data) // CHUNK_BYTES)
    if chunks <= 1:
        return _chunk(data, chunk)
    left = 1 << ((chunks - 1).bit_length() - 1)  # the largest power of two that leaves something on the right
    split = left * CHUNK_BYTES
    children = _compress(*_output(data[:split], chunk)) + _compress(*_output(data[split:], chunk + left))
    return IV, children, 0, BLOCK_BYTES, PARENT


def _chunk(data: bytes, number: int) -> Output:
    blocks = [data[at:at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)] or [b""]
    chaining, flags = IV, CHUNK_START
    for block in blocks[:-1]:
        chaining, flags = _compress(chaining, _words(block), number, BLOCK_BYTES, flags), 0
    return chaining, _words(blocks[-1]), number, len(blocks[-1]), flags | CHUNK_END


def _words(block: bytes) -> Words:
    padded = block.ljust(BLOCK_BYTES, b"\0")
    return tuple(int.from_bytes(padded[at:at + 4], "little") for at in range(0, BLOCK_BYTES, 4))


def _compress(chaining: Words, block: Words, counter: int, length: int, flags: int) -> Words:
    state = [*chaining, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for _ in range(ROUNDS):
        for mixed, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            _mix(state, a, b, c, d, block[2 * mixed], block[2 * mixed + 1])
        block = tuple(block[at] for at in PERMUTATION)
    return tuple(state[at] ^ state[at + 8] for at in range(8))


def _mix(state: list[int], a: int, b: int, c: int, d: int, first: int, second: int) -> None:
    for word, turn_d, turn_b in ((first, 16, 12), (second, 8, 7)):
        state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
        state[d] = _turned(state[d] ^ state[a], turn_d)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = _turned(state[b] ^ state[c], turn_b)


def _turned(word: int, bits: int) -> int:
    return (word >> bits | word << (32 - bits)) & 0xFFFFFFFF
