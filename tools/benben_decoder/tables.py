"""Tables of frequencies and the models that choose among them: format-spec/entropy.md, section 4."""

import numpy as np

from .errors import corruption, require

TOTAL = 4096
MAX_TABLES = 32
MANTISSA_BITS = (0, 1, 2, 3, 4, 5, 6, 11)
FLIP = (0, 0, 1, 1, 1, 1, 0, 0)
STATES = 8
LANES = 32


def weight(m, level):
    """The weight of a level on the grid of `m` mantissa bits."""
    if level < 2 << m:
        return level
    return ((1 << m) + level % (1 << m)) << (level >> m) - 1


def level_of(m, value):
    """The level of a weight: the largest whose weight is not above it."""
    if value < 2 << m:
        return value
    e = value.bit_length() - 1 - m
    return (e + 1 << m) + (value >> e) % (1 << m)


def frequencies(weights):
    """Weights of symbols as frequencies that add up to 4096."""
    total = sum(weights)
    require(0 < total <= 1 << 20, f"weights of a table add up to {total}")
    out = [max(1, TOTAL * w // total) if w else 0 for w in weights]
    missing = TOTAL - sum(out)
    if missing > 0:
        order = sorted((s for s, w in enumerate(weights) if w), key=lambda s: (-(TOTAL * weights[s] % total), s))
        for i in range(missing):
            out[order[i % len(order)]] += 1
    for _ in range(-missing):
        out[out.index(max(out))] -= 1
    return out


class Table:
    """First and last symbol as they are written, and the frequency of each of the 256 symbols."""

    def __init__(self, first, last, levels, m):
        require(levels[0] > 0 and levels[-1] > 0, "level 0 of the first or last symbol of a table")
        self.first, self.last = first, last
        weights = [0] * first + [weight(m, level) for level in levels] + [0] * (255 - last)
        self.frequencies = frequencies(weights)


def _near(bits, p, k, width):
    """A number coded near `p`."""
    q = bits.ones(8)
    if q == 8:
        return bits.take(width)
    z = (q << k) + bits.take(k)
    value = p - (z + 1) // 2 if z & 1 else p + z // 2
    require(value >= 0, "a number of a table below 0")
    return value


def _groups(first, last, pairs):
    """First symbol of each group of the range."""
    if pairs == 0:
        return list(range(first, last + 1))
    return [first] + [s for s in range(first + 1, last + 1) if s % 2 == pairs % 2]


def _read_table(bits, tables):
    code, predictor, k, pairs = bits.take(3), bits.take(2), bits.take(3), bits.take(2)
    require(pairs < 3, "pairs 3 of a table")
    m = MANTISSA_BITS[code]
    largest = level_of(m, TOTAL)
    width = largest.bit_length()
    before = None
    if tables:
        number = bits.take((len(tables) - 1).bit_length())
        require(number < len(tables), f"table {len(tables)} goes by table {number}")
        before = tables[number]
        first = before.first if bits.take(1) else bits.take(8)
        last = _near(bits, before.last, 1, 8)
    else:
        require(predictor < 2, "a predictor that needs a table before")
        first, last = bits.take(8), bits.take(8)
    require(first <= last <= 255, f"a table from symbol {first} to {last}")
    starts = _groups(first, last, pairs)
    v = []
    u = [level_of(m, before.frequencies[s]) for s in starts] if before else None
    for i in range(len(starts)):
        if i == 0 and predictor < 2:
            level = bits.take(width)
        else:
            if predictor == 0:
                p = v[i - 1]
            elif predictor == 1:
                p = 2 * v[i - 1] - v[i - 2] if i > 1 else v[0]
            elif predictor == 2:
                p = v[i - 1] + u[i] - u[i - 1] if i else u[0]
            else:
                p = u[i]
            level = _near(bits, min(max(p, 0), largest), k, width)
        require(level <= largest, f"level {level} of a table, the largest is {largest}")
        v.append(level)
    ends = starts[1:] + [last + 1]
    levels = [level for level, start, end in zip(v, starts, ends) for _ in range(start, end)]
    return Table(first, last, levels, m)


def read_list(fields):
    """A list of tables from side information, whose next byte is their number."""
    count = fields.u8()
    require(count <= MAX_TABLES, f"a list of {count} tables")
    if count == 0:
        return []
    bits = fields.bits()
    tables = []
    for _ in range(count):
        tables.append(_read_table(bits, tables))
    bits.finish()
    return tables


class Model:
    """Which table codes which symbol: tables, row classes with their run, column classes, a trellis of `T` tables."""

    def __init__(self, tables=(), run=1, classes=None, trellis=1, columns=None, column_count=1):
        self.tables = tables
        self.run = run
        self.classes = classes
        self.trellis = trellis
        self.columns = columns
        self.column_count = column_count
        self._lookup = None

    def lookup(self):
        """Symbol, frequency, and slot less start of the symbol, for each slot of each table."""
        if self._lookup is None:
            f = np.array([table.frequencies for table in self.tables], np.int64)
            symbols = np.concatenate([np.repeat(np.arange(256, dtype=np.uint8), row) for row in f])
            starts = np.cumsum(f, axis=1) - f
            rows = np.repeat(np.arange(len(f)), TOTAL)
            slots = np.tile(np.arange(TOTAL, dtype=np.int64), len(f))
            self._lookup = symbols, f[rows, symbols], slots - starts[rows, symbols]
        return self._lookup

    def rows(self, start, count):
        """Number of the table, but for the trellis, of `count` symbols from symbol `start` on; all are there."""
        top, out = 0, 0
        if self.classes is not None:
            first, last = start // self.run, (start + count - 1) // self.run
            if last >= len(self.classes):
                raise corruption(f"run {last} of symbols has no class")
            part = self.classes[first:last + 1]
            top = int(part.max())
            lengths = np.full(len(part), min(self.run, start + count))
            lengths[0] = min((first + 1) * self.run, start + count) - start
            if last > first:
                lengths[-1] = start + count - last * self.run
            out = np.repeat(part.astype(np.int64), lengths) if top or len(part) > 1 else 0
        out = out * self.column_count
        if self.columns is not None:
            period = len(self.columns)
            require(int(self.columns.max()) < self.column_count, "a column of a class that is not there")
            out = out + np.resize(np.roll(self.columns, -(start % period)), count).astype(np.int64)
        needed = (top * self.column_count + self.column_count) * self.trellis
        require(needed <= len(self.tables), f"a chunk needs {needed} tables, there are {len(self.tables)}")
        return out * self.trellis


def _next_states():
    """State after state `p` and symbol `s`, at `256 p + s`."""
    symbols = np.arange(256)
    parity = (symbols + 1) // 2 % 2
    return np.concatenate([2 * p % 8 + (parity + FLIP[p]) % 2 for p in range(STATES)]).astype(np.int64)


NEXT_STATE = _next_states()
