//! How 16 rows lie side by side in memory.
//!
//! Row is lane: word `r` of a [`Line`] belongs to row `r` of its group, and holds a few consecutive columns of it. A
//! product then multiplies a register of 16 weights with one activation, sums 16 outputs side by side and never adds
//! across a register; columns need no padding beyond one word, whatever the width of a code.

/// Rows of a group: the f32 lanes of the widest register.
pub(crate) const LANES: usize = 16;

/// One word of each row of a group, on a cache line of its own.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; LANES]);

/// What the lines of a group hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Packing {
    /// Two bits: zero, the positive or the negative level of the row. Two lines with the levels come first.
    Trits = TRITS,
    /// Integers of two bits, an index into a table of values; so are the following.
    Bits2 = 2,
    /// Three bits.
    Bits3 = 3,
    /// Four bits.
    Bits4 = 4,
    /// Five bits.
    Bits5 = 5,
    /// Six bits: a sign and five of magnitude, sixteen columns in three lines.
    Bits6 = 6,
    /// Eight bits.
    Bits8 = 8,
    /// Ten bits.
    Bits10 = 10,
    /// f16: the first half of a line is one column, the second the next.
    Half = HALF,
    /// bf16, likewise.
    Brain = BRAIN,
    /// f32: a line is a column.
    Full = FULL,
}

pub(crate) const TRITS: u8 = 1;
pub(crate) const HALF: u8 = 16;
pub(crate) const BRAIN: u8 = 17;
pub(crate) const FULL: u8 = 32;

/// Codes of six bits, which are a sign and a magnitude: a table of 32 values is one permutation, of 64 two and a choice.
pub(crate) const SIGNED: u8 = Packing::Bits6 as u8;
/// Codes of eight bits to a kernel that computes the values of [`View::far`] integers and keeps the rest in registers.
pub(crate) const REGULAR: u8 = 9;
/// Integers from here on, of either sign, are far.
pub(crate) const FAR: i32 = 32;

/// All packings.
pub(crate) const ALL: [Packing; 11] = [
    Packing::Trits,
    Packing::Bits2,
    Packing::Bits3,
    Packing::Bits4,
    Packing::Bits5,
    Packing::Bits6,
    Packing::Bits8,
    Packing::Bits10,
    Packing::Half,
    Packing::Brain,
    Packing::Full,
];

/// Packings of integers, narrow ones first.
pub(crate) const INTEGERS: [Packing; 7] = {
    let [_, a, b, c, d, e, f, g, ..] = ALL;
    [a, b, c, d, e, f, g]
};

/// Bits of a code of packing `P`; 0 for floats.
pub(crate) const fn bits(packing: u8) -> usize {
    match packing {
        TRITS => 2,
        REGULAR => 8,
        HALF | BRAIN | FULL => 0,
        integer => integer as usize,
    }
}

/// Columns of a unit of packing `P`, the least that begins and ends with a line.
pub(crate) const fn unit(packing: u8) -> usize {
    match packing {
        FULL => 1,
        HALF | BRAIN => 2,
        SIGNED => 16,
        code => 32 / bits(code),
    }
}

/// Lines of a unit.
pub(crate) const fn unit_lines(packing: u8) -> usize {
    if packing == SIGNED { 3 } else { 1 }
}

/// Units after which columns come back to the same of four sums.
pub(crate) const fn unroll(packing: u8) -> usize {
    match unit(packing) % 4 {
        0 => 1,
        2 => 2,
        _ => 4,
    }
}

/// Lines of levels before the codes.
pub(crate) const fn lead(packing: u8) -> usize {
    if packing == TRITS { 2 } else { 0 }
}

/// Columns after which every packing begins a unit: a multiple of 16, 10, 8, 6, 5, 4, 3, 2 and 1.
pub(crate) const WHOLE: usize = 240;
/// Columns of a panel that is multiplied with many vectors: two of them are 120 kB, half of the least L2 cache there is.
pub(crate) const BLOCK: usize = 4 * WHOLE;

impl Packing {
    /// Lines of codes for `columns`.
    pub(crate) const fn lines(self, columns: usize) -> usize {
        columns.div_ceil(unit(self as u8)) * unit_lines(self as u8)
    }

    /// The integers that have a code.
    pub(crate) const fn reach(self) -> std::ops::RangeInclusive<i32> {
        let limit = 1 << (bits(self as u8) - 1);
        let lowest = if self as u8 == SIGNED { 1 - limit } else { -limit };
        lowest..=limit - 1
    }

    /// Writes `column`, integers that have codes of packing `P`, as column `i` of a unit that is 0 there. Lane by lane
    /// inside: all sixteen at once.
    #[inline(always)]
    pub(crate) fn put<const P: u8>(unit: &mut [Line], i: usize, column: &[i32; LANES]) {
        #[inline(always)]
        fn write(line: &mut Line, column: &[i32; LANES], code: impl Fn(i32) -> u32) {
            line.0.iter_mut().zip(column).for_each(|(word, q)| *word |= code(*q));
        }
        if P != SIGNED {
            let (mask, shift) = ((1 << bits(P)) - 1, bits(P) * i);
            write(&mut unit[0], column, |q| (q.cast_unsigned() & mask) << shift);
        } else if i < 15 {
            let shift = 6 * (i % 5);
            write(&mut unit[i / 5], column, |q| (u32::from(q < 0) | q.unsigned_abs() << 1) << shift);
        } else {
            write(&mut unit[0], column, |q| u32::from(q < 0) << 31 | (q.unsigned_abs() & 16) << 26);
            write(&mut unit[1], column, |q| q.unsigned_abs() << 30);
            write(&mut unit[2], column, |q| (q.unsigned_abs() & 12) << 28);
        }
    }
}

/// Sign (as bit 31) and magnitude of column `i` of row `lane` of a unit of [`SIGNED`] codes. Turned right by one bit more
/// than where it begins, a code has its sign where that of a float is and its magnitude at the low end: one rotation
/// serves the look-up and the sign. The two bits that five codes leave of each word are the sixteenth.
#[inline(always)]
pub(crate) fn signed(unit: &[Line], i: usize, lane: usize) -> (u32, usize) {
    let word = |j: usize| unit[j].0[lane];
    let (sign, magnitude) = if i < 15 {
        let word = word(i / 5);
        let turned = word >> (6 * (i % 5) + 1) | word << (31 - 6 * (i % 5));
        (turned, turned & 31)
    } else {
        (word(0), word(0) >> 26 & 16 | word(1) >> 30 | word(2) >> 28 & 12)
    };
    (sign & 1 << 31, magnitude as usize)
}

/// Where the table of each packing of integers begins in the tables of a matrix. Narrow ones are repeated up to a
/// register, so that bits above the code need no masking.
pub(crate) const fn table(packing: u8) -> std::ops::Range<usize> {
    match packing {
        2 => 0..16,
        3 => 16..32,
        4 => 32..48,
        5 => 48..80,
        // Magnitudes.
        SIGNED => 80..112,
        8 | REGULAR => 112..368,
        10 => 368..1392,
        _ => 0..0,
    }
}

/// The integer of a code of `bits`, two's complement; higher bits are ignored.
#[allow(clippy::cast_possible_truncation, reason = "2 to 10 bits")]
pub(crate) const fn integer(code: u32, bits: usize) -> i32 {
    let shift = 32 - bits as u32;
    ((code << shift) as i32) >> shift
}

/// Tables of all packings of integers up to `widest` for a matrix whose integers have the values `value`.
#[allow(clippy::cast_possible_truncation, reason = "at most 1024 entries")]
pub(crate) fn tables(widest: Packing, value: impl Fn(i32) -> f32) -> Box<[f32]> {
    let packings = INTEGERS.into_iter().take_while(|&p| p as u8 <= widest as u8);
    packings
        .flat_map(|p| table(p as u8).map(move |i| (p, i)))
        .map(|(p, i)| (p as u8, (i - table(p as u8).start) as u32))
        .map(|(p, code)| value(if p == SIGNED { code as i32 } else { integer(code, bits(p)) }))
        .collect()
}

/// The 16 rows of one group, and what it takes to read them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) packing: Packing,
    /// Levels, then codes of `columns`.
    pub(crate) lines: &'a [Line],
    pub(crate) columns: usize,
    /// [`tables`] of the matrix.
    pub(crate) tables: &'a [f32],
    /// The step of which the values of integers from [`FAR`] on are whole multiples, rounded once; if they are.
    pub(crate) far: Option<f32>,
}

/// Evaluates `$body` with the constant `$P` for `$packing`.
macro_rules! by_packing {
    ($packing:expr, $P:ident => $body:expr) => {
        by_packing!(@ $packing, $P, $body, Trits Bits2 Bits3 Bits4 Bits5 Bits6 Bits8 Bits10 Half Brain Full)
    };
    (@ $packing:expr, $P:ident, $body:expr, $($name:ident)*) => {
        match $packing { $(Packing::$name => { const $P: u8 = Packing::$name as u8; $body })* }
    };
}
pub(super) use by_packing;

/// Evaluates `$body` with the constant `$V` for `$count`, one of those listed.
macro_rules! by_count {
    ($count:expr, $V:ident in [$($n:literal)*], $body:expr) => {
        match $count { $($n => { const $V: usize = $n; $body })* _ => {} }
    };
}
pub(super) use by_count;
