"""One frame of zstd (RFC 8878), bounded, from `compression.zstd` of Python 3.14 or from the package `zstandard`.

format-spec/entropy.md, section 3, and container.md, section 5: exactly one frame, which ends where the input ends,
without a dictionary, of a known decoded size, of which no more than is known is allocated.
"""

import io

from .errors import UNSUPPORTED, BenbenError, corruption, require

try:
    from compression import zstd as _builtin
except ImportError:
    try:
        from backports import zstd as _builtin
    except ImportError:
        _builtin = None
try:
    import zstandard as _package
except ImportError:
    _package = None

MAGIC = b"\x28\xB5\x2F\xFD"
# Windows up to 2 GiB: the most that the library takes. The window costs no more than the decoded size.
WINDOW_LOG_MAX = 31


def missing():
    """What is missing, in words, or None where frames can be decoded."""
    if _builtin is None and _package is None:
        return "neither compression.zstd (Python 3.14) nor the package zstandard is there"
    return None


def _frame_length(data):
    """Bytes of the first frame of `data` and its declared decoded size (None where it does not say)."""
    require(data[:4] == MAGIC, "no zstd frame")
    require(len(data) >= 5, "a zstd frame ends early")
    descriptor = data[4]
    single = descriptor >> 5 & 1
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    size_bytes = (single, 2, 4, 8)[descriptor >> 6]
    pos = 5 + (1 - single)
    require(len(data) >= pos + dictionary + size_bytes, "a zstd frame ends early")
    require(not any(data[pos:pos + dictionary]), "a zstd frame needs a dictionary")
    pos += dictionary
    size = None
    if size_bytes:
        size = int.from_bytes(data[pos:pos + size_bytes], "little") + (256 if size_bytes == 2 else 0)
    pos += size_bytes
    last = False
    while not last:
        require(len(data) - pos >= 3, "a zstd frame ends early")
        header = int.from_bytes(data[pos:pos + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        pos += 3 + (1 if kind == 1 else length)
    pos += 4 * (descriptor >> 2 & 1)
    require(pos <= len(data), "a zstd frame ends early")
    return pos, size


def decode(data, size):
    """The `size` bytes that the one frame `data` stands for; anything else is Corruption."""
    if missing():
        raise BenbenError(UNSUPPORTED, f"zstd: {missing()}")
    data = bytes(data)
    length, declared = _frame_length(data)
    require(length == len(data), f"{len(data) - length} bytes follow a zstd frame")
    require(declared in (None, size), f"a zstd frame of {declared} bytes where {size} are expected")
    out = _decode_builtin(data, size) if _builtin else _decode_package(data, size)
    require(len(out) == size, f"a zstd frame of other than {size} bytes")
    return out


def _decode_builtin(data, size):
    options = {_builtin.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
    try:
        decoder = _builtin.ZstdDecompressor(options=options)
        out = decoder.decompress(data, max_length=size + 1)
        # An empty block at the end can leave the decoder short of its end with nothing more to come.
        if not decoder.eof and len(out) <= size:
            out += decoder.decompress(b"", max_length=size + 1 - len(out))
    except (_builtin.ZstdError, EOFError) as error:
        raise corruption(f"zstd: {error}") from error
    require(decoder.eof, "a zstd frame does not end with its data")
    return out


def _decode_package(data, size):
    try:
        decoder = _package.ZstdDecompressor(max_window_size=1 << WINDOW_LOG_MAX)
        reader = decoder.stream_reader(io.BytesIO(data), read_across_frames=False)
        parts, left = [], size + 1
        # One read past the size also makes the library check the checksum at the end of the frame.
        while left:
            part = reader.read(min(left, 1 << 20))
            if not part:
                break
            parts.append(part)
            left -= len(part)
    except _package.ZstdError as error:
        raise corruption(f"zstd: {error}") from error
    return b"".join(parts)
