//! Values of quantized blocks, as f32.
//!
//! Source: the block structures of ggml (`ggml-common.h`). Every value is computed in f32 by the operations given
//! here, in this order and without fused multiply-add; that makes them bit-identical to the reference
//! implementation in Python (`gguf.quants`), which `tests/golden.rs` holds them against. In the tables, d, m and
//! dmin are f16; q is the unsigned code of an element.
//!
//! | block | elements | bytes, in order | value |
//! |---|---|---|---|
//! | Q8_0 | 32 | d, q i8 x 32 | d q |
//! | Q4_0 | 32 | d, nibbles 16 | d (q - 8) |
//! | Q4_1 | 32 | d, m, nibbles 16 | d q + m |
//! | Q5_0 | 32 | d, bit 4 of each q as u32, nibbles 16 | d (q - 16) |
//! | Q5_1 | 32 | d, m, bit 4 of each q as u32, nibbles 16 | d q + m |
//! | IQ4_NL | 32 | d, nibbles 16 | d table\[q\] |
//! | MXFP4 | 32 | e u8, nibbles 16 | 2^(e-128) table\[q\] |
//! | Q2_K | 256 | scale and minimum of 16 groups, 4 bits each; pairs 64; d, dmin | (d s) q - (dmin m) |
//! | Q3_K | 256 | bit 2 of each q 32, pairs 64, 16 scales of 6 bits 12, d | (d (s - 32)) (q - 4) |
//! | Q4_K | 256 | d, dmin, 8 scales and minima of 6 bits 12, nibbles 128 | (d s) q - (dmin m) |
//! | Q5_K | 256 | d, dmin, 8 scales and minima of 6 bits 12, bit 4 of each q 32, nibbles 128 | (d s) q - (dmin m) |
//! | Q6_K | 256 | nibbles 128, bits 4 and 5 of each q 64, 16 scales i8, d | (d s) (q - 32) |
//!
//! In blocks of 32, the low nibbles are elements 0-15, the high ones 16-31. In blocks of 256, planes of bits are
//! strided by 32 elements: see each function.

use half::f16;

/// Every block of `bytes` by `decode`; the values as little-endian f32. `bytes` is a whole number of blocks.
pub(super) fn expand<const B: usize, const N: usize>(
    bytes: &[u8],
    decode: fn(&[u8; B], &mut [f32; N]),
) -> Vec<u8> {
    let (blocks, _) = bytes.as_chunks::<B>();
    let mut out = Vec::with_capacity(blocks.len() * N * size_of::<f32>());
    let mut values = [0.0; N];
    for block in blocks {
        decode(block, &mut values);
        for value in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out
}

/// The f16 at `at`.
fn f16_at<const B: usize>(block: &[u8; B], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Code `i` of 32 nibbles: low halves first.
fn nibble(nibbles: &[u8], i: usize) -> u8 {
    if i < 16 { nibbles[i] & 15 } else { nibbles[i - 16] >> 4 }
}

pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (x, &q) in out.iter_mut().zip(&block[2..]) {
        *x = f32::from(q.cast_signed()) * d;
    }
}

pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * (f32::from(nibble(&block[2..], i)) - 8.0);
    }
}

pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * f32::from(nibble(&block[4..], i)) + m;
    }
}

/// Code `i` of 32: a nibble and the bit above it.
fn five_bits(high: &[u8], nibbles: &[u8], i: usize) -> f32 {
    f32::from(nibble(nibbles, i) | ((high[i / 8] >> (i % 8)) & 1) << 4)
}

pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * (five_bits(&block[2..6], &block[6..], i) - 16.0);
    }
}

pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * five_bits(&block[4..8], &block[8..], i) + m;
    }
}

/// Non-uniform levels of IQ4_NL.
const IQ4_NL: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * IQ4_NL[usize::from(nibble(&block[2..], i))];
    }
}

/// Twice the values of FP4 E2M1 (OCP Microscaling Formats 1.0). Code 8 is zero without a sign, as in ggml.
const E2M1: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // Half of the E8M0 scale 2^(e-127), because the table is doubled; the two smallest are subnormal.
    let e = u32::from(block[0]);
    let d = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * E2M1[usize::from(nibble(&block[1..], i))];
    }
}

/// Bits 2s and 2s+1 of byte l of half h, where element i = 128 h + 32 s + l.
fn pair(pairs: &[u8], i: usize) -> u8 {
    (pairs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3
}

/// Nibble s of byte l of quarter k, where element i = 64 k + 32 s + l.
fn strided_nibble(nibbles: &[u8], i: usize) -> u8 {
    (nibbles[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4)) & 15
}

/// Bit g of byte l, where element i = 32 g + l.
fn strided_bit(bits: &[u8], i: usize) -> u8 {
    (bits[i % 32] >> (i / 32)) & 1
}

pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (i, x) in out.iter_mut().enumerate() {
        let scale = block[i / 16];
        let (d, m) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
        *x = d * f32::from(pair(&block[16..80], i)) - m;
    }
}

pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = f16_at(block, 108);
    let scales = &block[96..108];
    for (i, x) in out.iter_mut().enumerate() {
        // Low four bits of scale j in nibble j/8 of byte j%8, its high two in pair j/4 of byte 8 + j%4.
        let j = i / 16;
        let scale = ((scales[j % 8] >> (j / 8 * 4)) & 15) | ((scales[8 + j % 4] >> (j / 4 * 2)) & 3) << 4;
        let q = pair(&block[32..96], i) | strided_bit(&block[..32], i) << 2;
        *x = (d * (f32::from(scale) - 32.0)) * (f32::from(q) - 4.0);
    }
}

/// Scale and minimum of group `j` of 8, six bits each in twelve bytes: groups 0-3 have bytes j and 4 + j to
/// themselves but for their two top bits, which are those of group 4 + j; its other bits share byte 8 + j.
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[4 + j] & 63)
    } else {
        let (top_scale, top_minimum) = (packed[j - 4] >> 6, packed[j] >> 6);
        (packed[4 + j] & 15 | top_scale << 4, packed[4 + j] >> 4 | top_minimum << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (i, x) in out.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], i / 32);
        *x = (d * scale) * f32::from(strided_nibble(&block[16..], i)) - dmin * minimum;
    }
}

pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (i, x) in out.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], i / 32);
        let q = strided_nibble(&block[48..], i) | strided_bit(&block[16..48], i) << 4;
        *x = (d * scale) * f32::from(q) - dmin * minimum;
    }
}

pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = f16_at(block, 208);
    for (i, x) in out.iter_mut().enumerate() {
        // Within a half of 128 elements, nibbles are strided by 64 and the pairs above them by 32.
        let low = (block[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4)) & 15;
        let q = low | pair(&block[128..192], i) << 4;
        let scale = block[192 + i / 16].cast_signed();
        *x = (d * f32::from(scale)) * (f32::from(q) - 32.0);
    }
}
