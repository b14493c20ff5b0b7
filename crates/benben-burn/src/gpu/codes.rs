//! Values to codes: what a kernel looks up.

use super::kernels::{Coded, Summed};
use super::sums::Sums;
use benben_format::Result;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::HashMap;

/// Most values of a table; codes have 16 bits.
const MAX_VALUES: usize = 1 << 16;

/// Codes of a matrix that is given row by row.
pub(super) struct Palette {
    table: Vec<f32>,
    codes: Vec<u16>,
    known: HashMap<u32, u16>,
}

impl Palette {
    pub(super) fn new() -> Self {
        Self { table: Vec::new(), codes: Vec::new(), known: HashMap::new() }
    }

    /// Takes more values; false once there are more different ones than codes.
    pub(super) fn push(&mut self, values: &[f32]) -> bool {
        self.codes.reserve(values.len());
        for value in values {
            let code = match self.known.get(&value.to_bits()) {
                Some(&code) => code,
                None => {
                    let Some(code) =
                        u16::try_from(self.table.len()).ok().filter(|_| self.table.len() < MAX_VALUES)
                    else {
                        return false;
                    };
                    self.known.insert(value.to_bits(), code);
                    self.table.push(*value);
                    code
                }
            };
            self.codes.push(code);
        }
        true
    }

    /// The codes of a matrix whose transpose was pushed, `columns` rows of `rows` values.
    pub(super) fn transposed(mut self, [rows, columns]: [usize; 2]) -> Self {
        let stored = std::mem::take(&mut self.codes);
        self.codes = (0..rows * columns).map(|i| stored[i % columns * rows + i / columns]).collect();
        self
    }

    /// The codes on `device`, one byte each where that is enough.
    pub(super) fn upload(self, [rows, columns]: [usize; 2], device: &Device) -> Result<Coded> {
        let bits = if self.table.len() <= 256 { 8 } else { 16 };
        let packed = pack(&self.codes, columns, bits);
        let packed = TensorData::new(packed, [rows * columns.div_ceil(32 / bits)]);
        let table = TensorData::new(self.table.clone(), [self.table.len()]);
        Ok(Coded {
            packed: Tensor::from_data(packed, (device, DType::I32)),
            table: Tensor::from_data(table, (device, DType::F32)),
            shape: [rows, columns],
            bits: if bits == 8 { 8 } else { 16 },
        })
    }
}

/// Codes of `bits` bits into words, each row from a word of its own.
fn pack(codes: &[u16], columns: usize, bits: usize) -> Vec<i32> {
    let word = |codes: &[u16]| {
        let bits = codes.iter().enumerate().fold(0, |word, (i, &code)| word | u32::from(code) << (bits * i));
        bits.cast_signed()
    };
    codes.chunks(columns.max(1)).flat_map(|row| row.chunks(32 / bits).map(word)).collect()
}

/// Codes and codewords of an `rvq` leaf on `device`.
pub(super) fn upload_sums(codes: &Sums, shape: [usize; 2], device: &Device) -> Summed {
    let bytes: Vec<u16> = codes.codes.iter().map(|&c| c.into()).collect();
    let ints = |values: Vec<i32>| {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), (device, DType::I32))
    };
    let indices = |values: &[u32]| ints(values.iter().map(|v| v.cast_signed()).collect());
    let words = TensorData::new(codes.words.clone(), [codes.words.len()]);
    Summed {
        packed: ints(pack(&bytes, codes.vectors, 8)),
        groups: indices(&codes.groups),
        offsets: indices(&codes.offsets),
        words: Tensor::from_data(words, (device, DType::F32)),
        shape,
        vectors: codes.vectors,
        dim: codes.dim,
        stages: codes.stages,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Adapter;
    use super::*;

    /// The adapter, or a line that says why the test is left out.
    fn adapter() -> Option<Adapter> {
        match Adapter::find() {
            Ok(adapter) => Some(adapter),
            Err(e) => {
                println!("skipped: no wgpu adapter (install mesa-vulkan-drivers libvulkan1): {e}");
                None
            }
        }
    }

    /// Values of `count` different ones, and no multiple of the codes of a word in a row.
    fn matrix(rows: usize, columns: usize, count: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| ((i * 7919 + i / 3) % count) as f32 * 0.37 - 11.0).collect()
    }

    fn coded(values: &[f32], shape: [usize; 2], device: &Device) -> Coded {
        let mut palette = Palette::new();
        assert!(values.chunks(100).all(|some| palette.push(some)));
        palette.upload(shape, device).unwrap()
    }

    #[test]
    fn expanded_values_have_the_same_bits() {
        let Some(adapter) = adapter() else { return };
        for (rows, columns, count) in [(1, 1, 1), (13, 37, 200), (64, 96, 256), (50, 81, 3000), (700, 513, 5)]
        {
            let values = matrix(rows, columns, count);
            let coded = coded(&values, [rows, columns], adapter.device());
            assert_eq!(coded.bits, if count > 256 { 16 } else { 8 });
            let found = coded.expand().unwrap().into_data();
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(found.as_slice().unwrap()),
                bits(&values),
                "{rows} x {columns} on {}",
                adapter.name()
            );
        }
    }

    #[test]
    fn products_are_those_of_the_values() {
        let Some(adapter) = adapter() else { return };
        for (rows, columns, count, vectors) in
            [(1, 1, 1, 1), (37, 131, 200, 3), (50, 81, 3000, 8), (40_000, 5, 9, 2)]
        {
            let values = matrix(rows, columns, count);
            let coded = coded(&values, [rows, columns], adapter.device());
            let x: Vec<f32> = (0..vectors * columns).map(|i| (i as f32 * 0.7).sin()).collect();
            let tensor = TensorData::new(x.clone(), [vectors, columns]);
            let y = coded.multiply(Tensor::from_data(tensor, adapter.device())).unwrap();
            assert_eq!(y.dims(), [vectors, rows]);
            let y = y.into_data();
            let rows_of_x = x.chunks(columns).flat_map(|x| values.chunks(columns).map(move |row| (row, x)));
            for (found, (row, x)) in y.as_slice::<f32>().unwrap().iter().zip(rows_of_x) {
                let terms = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                assert!((f64::from(*found) - sum).abs() <= 2e-6 * size + 1e-30, "{found} for {sum}");
            }
        }
    }

    #[test]
    fn sums_of_codewords_have_the_bits_of_the_processors() {
        let Some(adapter) = adapter() else { return };
        for (dim, stages, groups, rows, columns) in
            [(1, 1, 1, 3, 5), (4, 3, 1, 30, 36), (8, 2, 3, 17, 64), (2, 2, 1, 1, 33)]
        {
            let across = (rows * columns as usize).div_ceil(dim);
            let per_row = if groups > 1 { columns / dim } else { 1 };
            let codes = Sums {
                dim,
                stages,
                vectors: across,
                groups: (0..per_row as u32).map(|p| p % groups).collect(),
                offsets: (0..groups * stages as u32).map(|b| b * 200 * dim as u32).collect(),
                words: matrix(200 * dim, stages * groups as usize, 9973),
                codes: (0..stages * across).map(|i| (i * 31 % 200) as u8).collect(),
            };
            let found = upload_sums(&codes, [rows, columns], adapter.device()).expand().unwrap().into_data();
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(found.as_slice().unwrap()),
                bits(&codes.add_up(rows * columns)),
                "{dim} {stages} {groups}"
            );
        }
    }

    #[test]
    fn too_many_values_are_no_palette() {
        let mut palette = Palette::new();
        let values: Vec<f32> = (0..1 << 16).map(|i| i as f32).collect();
        assert!(palette.push(&values) && palette.push(&values));
        assert!(!palette.push(&[0.5]));
    }
}
