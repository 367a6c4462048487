"""A guest that needs no image of an operating system: a boot sector that counts on its disks.

It writes 1, 2, 3, ... without end. Each number fills a sector of its own and the ``hot`` sector, on each of
its disks, by the BIOS. When all of these writes have been acknowledged, it says the number on the port 0xe9.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SECTOR = 512

LISTING = """\
                             bits 16
                             org 0x7c00
000 fa                       cli                         ; a stack below the boot sector, all segments at 0
001 31c0                     xor ax, ax
003 8ed8                     mov ds, ax
005 8ec0                     mov es, ax
007 8ed0                     mov ss, ax
009 bc007c                   mov sp, 0x7c00
00c fb                       sti
00d fc                       cld
                     rested:
00e 8b2edc7d                 mov bp, [burst]
                     number:
012 c606ac7c80               mov byte [drive], 0x80      ; the BIOS's first hard disk
                     disk:
017 660fb606ac7c             movzx eax, byte [drive]     ; written is the number, above it the disk's index
01d 247f                     and al, 0x7f
01f 66c1e01c                 shl eax, 28
023 660b06e07d               or eax, [last]
028 6640                     inc eax
02a bf0080                   mov di, 0x8000              ; a whole sector of it
02d b98000                   mov cx, 128
030 f366ab                   rep stosd
033 66a1e07d                 mov eax, [last]             ; into a sector of the number's own
037 6640                     inc eax
039 662306d47d               and eax, [mask]
03e 660306d07d               add eax, [ring]
043 e84400                   call write
046 66a1d87d                 mov eax, [hot]              ; and into one that is written again and again
04a e83d00                   call write
04d fe06ac7c                 inc byte [drive]
051 a0ac7c                   mov al, [drive]
054 247f                     and al, 0x7f
056 3a06de7d                 cmp al, [disks]
05a 72bb                     jb disk
05c 66ff06e07d               inc dword [last]            ; all is acknowledged: count it and say so
061 668b1ee07d               mov ebx, [last]
066 b480                     mov ah, 0x80                ; the first of five bytes is marked
068 b90500                   mov cx, 5
                     say:
06b 88d8                     mov al, bl
06d 247f                     and al, 0x7f
06f 08e0                     or al, ah
071 e6e9                     out 0xe9, al
073 30e4                     xor ah, ah
075 66c1eb07                 shr ebx, 7
079 e2f0                     loop say
07b 4d                       dec bp
07c 7402                     jz rest
07e eb92                     jmp number
                     rest:
080 833edc7d00               cmp word [burst], 0         ; 0: no rest but one of no time
085 7487                     jz rested
087 f4                       hlt                         ; until the timer's next tick, 55 ms at most
088 eb84                     jmp rested

                     write:                              ; writes the buffer to sector eax until it succeeds
08a 66a3b87c                 mov [sector], eax
08e 60                       pusha
                     again:
08f c706b27c0100             mov word [packet + 2], 1
095 b80043                   mov ax, 0x4300              ; INT 13h, extended write
098 8a16ac7c                 mov dl, [drive]
09c beb07c                   mov si, packet
09f cd13                     int 0x13
0a1 7307                     jnc written
0a3 66ff06e47d               inc dword [errors]
0a8 ebe5                     jmp again
                     written:
0aa 61                       popa
0ab c3                       ret

0ac 00               drive:  db 0
                             align 4, db 0
0b0 1000             packet: db 16, 0                    ; the BIOS's disk address packet
0b2 010000800000             dw 1, 0x8000, 0
0b8 0000000000000000 sector: dd 0, 0

                             times 0x1d0 - ($ - $$) db 0
1d0 00080000         ring:   dd 2048                     ; what can be set
1d4 ff3f0000         mask:   dd 0x3fff
1d8 40000000         hot:    dd 64
1dc 1000             burst:  dw 16
1de 0100             disks:  db 1, 0
1e0 00000000         last:   dd 0                        ; what can be read: the last acknowledged number
1e4 00000000         errors: dd 0
                             times 510 - ($ - $$) db 0
1fe 55aa                     dw 0xaa55
"""
"""Offset and bytes in the first 20 columns, beside what nasm makes them of."""

RING, DISKS_SHIFT = 0x1D0, 28
LAST_ADDRESS = 0x7C00 + 0x1E0
"""Where the guest's memory holds the last number that was acknowledged, and behind it the count of errors."""


@dataclass(frozen=True, slots=True)
class Counting:
    """How the guest counts. All places are sectors of 512 bytes."""

    ring: int = 2048
    """The first of those that hold one number each."""
    numbers: int = 0x4000
    """How many these are, a power of two; the next number begins at the first one again."""
    hot: int = 64
    burst: int = 16
    """Numbers between two rests, which last until the timer's next tick (55 ms); 0 for no rest."""
    disks: int = 1

    def boot_sector(self) -> bytes:
        """Return the 512 bytes to boot from."""
        code = bytearray(SECTOR)
        for line in LISTING.splitlines():
            if written := line[:20].split():
                offset, data = int(written[0], 16), bytes.fromhex(written[1])
                code[offset : offset + len(data)] = data
        given = (self.ring, self.numbers - 1, self.hot, self.burst, self.disks)
        struct.pack_into("<IIIHB", code, RING, *given)
        return bytes(code)

    def sector_of(self, number: int) -> int:
        """Return where a number lies."""
        return self.ring + number % self.numbers

    def content(self, number: int, disk: int = 0) -> bytes:
        """Return what that sector of a disk (0 is the first) then holds."""
        return struct.pack("<I", number | disk << DISKS_SHIFT) * (SECTOR // 4)

    @property
    def end(self) -> int:
        """The first sector behind all that the guest writes."""
        return max(self.ring + self.numbers, self.hot + 1)


def said(data: bytes) -> list[int]:
    """Return the numbers that were said on the port, the last only if it is whole.

    Each is five bytes of seven bits, the lowest first; only the first byte has its highest bit set. Raises
    ValueError for anything else.
    """
    numbers = []
    whole = len(data) // 5 * 5
    for start in range(0, whole, 5):
        word = data[start : start + 5]
        if [byte >> 7 for byte in word] != [1, 0, 0, 0, 0]:
            raise ValueError(f"byte {start} of what the guest said begins no number: {word.hex()}")
        numbers.append(sum((byte & 0x7F) << 7 * place for place, byte in enumerate(word)))
    return numbers
