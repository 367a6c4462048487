"""AES-256 decryption in CBC mode (FIPS 197, NIST SP 800-38A), for the few bytes of a secret.

It is slow, and its time depends on the data: no protection against who can measure that. Pure.
"""

from __future__ import annotations

BLOCK_BYTES = 16
KEY_BYTES = 32
_ROUNDS = 14


def decrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Decrypt whole blocks; the padding stays. Raises ValueError for a length that can't be."""
    if len(key) != KEY_BYTES or len(iv) != BLOCK_BYTES or len(data) % BLOCK_BYTES:
        raise ValueError("the key has 32 bytes, the vector 16, and the data whole blocks")
    keys = _expand_key(key)
    plain = bytearray()
    for start in range(0, len(data), BLOCK_BYTES):
        block = data[start : start + BLOCK_BYTES]
        plain += _xor(_decrypt_block(keys, block), iv)
        iv = block
    return bytes(plain)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _times(a: int, b: int) -> int:
    """The product in the field of 256 elements with AES's polynomial (FIPS 197, 4.2)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _substitution() -> bytes:
    """The S-box: the inverse in the field, then the affine map (FIPS 197, 5.1.1)."""
    box = bytearray(256)
    power = inverse = 1
    while True:
        power = _times(power, 3)  # 3 generates all but 0, and 0xf6 is its inverse
        inverse = _times(inverse, 0xF6)
        mapped = 0x63
        for shift in range(5):
            mapped ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
        box[power] = mapped
        if power == 1:
            break
    box[0] = 0x63
    return bytes(box)


_S_BOX = _substitution()
_INVERSE_S_BOX = bytes(_S_BOX.index(byte) for byte in range(256))
_UNSHIFT_ROWS = tuple((index - 4 * (index % 4)) % 16 for index in range(16))
_UNMIX = tuple(tuple(_times(byte, factor) for byte in range(256)) for factor in (14, 11, 13, 9))


def _expand_key(key: bytes) -> list[bytes]:
    """The keys of the rounds, first to last (FIPS 197, 5.2)."""
    words = [key[start : start + 4] for start in range(0, KEY_BYTES, 4)]
    constant = 1
    while len(words) < 4 * (_ROUNDS + 1):
        word = words[-1]
        if len(words) % 8 == 0:
            word = bytes(_S_BOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _times(constant, 2)
        elif len(words) % 8 == 4:
            word = bytes(_S_BOX[byte] for byte in word)
        words.append(_xor(words[-8], word))
    return [b"".join(words[start : start + 4]) for start in range(0, len(words), 4)]


def _decrypt_block(keys: list[bytes], block: bytes) -> bytes:
    state = _xor(block, keys[-1])
    for number in range(_ROUNDS - 1, -1, -1):
        state = bytes(_INVERSE_S_BOX[state[index]] for index in _UNSHIFT_ROWS)
        state = _xor(state, keys[number])
        if number:
            state = _unmix_columns(state)
    return state


def _unmix_columns(state: bytes) -> bytes:
    mixed = bytearray()
    for start in range(0, BLOCK_BYTES, 4):
        column = state[start : start + 4]
        for row in range(4):
            byte = 0
            for factor in range(4):
                byte ^= _UNMIX[factor][column[(row + factor) % 4]]
            mixed.append(byte)
    return bytes(mixed)
