//! The kernels, in CubeCL. WGSL has no bytes: codes are packed into words of 32 bits, the first in the lowest bits, and
//! each row of a matrix begins a word.

use benben_format::{Error, Result};
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, kernel::into_contiguous};
use cubecl::prelude::{CubeCount, CubeDim};

/// Units that work on one cube of the expanding kernel.
const UNITS: u32 = 64;
/// Units that share one row of a product.
const ROW_UNITS: usize = 32;
/// Cubes along one axis; WebGPU allows 65,535.
const AXIS: usize = 1 << 15;

#[allow(missing_docs, reason = "the macro makes public modules of each kernel")]
mod cubes {
    use cubecl::prelude::*;

    /// `out[row][column] = table[code]`, one unit for each word.
    #[cube(launch)]
    pub(super) fn expand(
        packed: &[u32],
        table: &[f32],
        out: &mut [f32],
        #[comptime] columns: usize,
        #[comptime] bits: u32,
        #[comptime] mask: u32,
    ) {
        let pos = ABSOLUTE_POS;
        if pos >= packed.len() {
            terminate!();
        }
        let each = comptime!((32 / bits) as usize);
        let words = comptime!(columns.div_ceil((32 / bits) as usize));
        let (row, first) = (pos / words, pos % words * each);
        let word = packed[pos];
        #[unroll]
        for j in 0..each {
            let column = first + j;
            if column < columns {
                let code = ((word >> (bits * j as u32)) & mask) as usize;
                out[row * columns + column] = table[code];
            }
        }
    }

    /// `out[vector][row] = sum over columns of table[code] * x[vector][column]`, one cube for each row and vector.
    #[cube(launch)]
    pub(super) fn multiply(
        packed: &[u32],
        table: &[f32],
        x: &[f32],
        out: &mut [f32],
        #[comptime] rows: usize,
        #[comptime] columns: usize,
        #[comptime] bits: u32,
        #[comptime] mask: u32,
        #[comptime] units: usize,
    ) {
        let row = (CUBE_POS_X + CUBE_POS_Y * CUBE_COUNT_X) as usize;
        if row >= rows {
            terminate!();
        }
        let vector = CUBE_POS_Z as usize;
        let each = comptime!((32 / bits) as usize);
        let words = comptime!(columns.div_ceil((32 / bits) as usize));
        let mut sum = 0.0f32;
        let mut at = UNIT_POS as usize;
        while at < words {
            let word = packed[row * words + at];
            #[unroll]
            for j in 0..each {
                let column = at * each + j;
                if column < columns {
                    let code = ((word >> (bits * j as u32)) & mask) as usize;
                    sum += table[code] * x[vector * columns + column];
                }
            }
            at += units;
        }
        let mut partial = Shared::new_slice(units);
        partial[UNIT_POS as usize] = sum;
        sync_cube();
        if UNIT_POS == 0u32 {
            let mut total = 0.0f32;
            for i in 0..units {
                total += partial[i];
            }
            out[vector * rows + row] = total;
        }
    }
}

/// Packed codes on a device and what they stand for.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    pub(crate) packed: Tensor<1, Int>,
    pub(crate) table: Tensor<1>,
    /// Rows and columns.
    pub(crate) shape: [usize; 2],
    /// Of a code: 8 or 16.
    pub(crate) bits: u32,
}

impl Coded {
    /// All values, `[rows, columns]`; the same bits as the table's.
    pub(crate) fn expand(&self) -> Result<Tensor<2>> {
        let (packed, table) = self.buffers()?;
        let [rows, columns] = self.shape;
        let out = room(&table, [rows, columns]);
        let cubes = rows * self.words() / UNITS as usize + 1;
        cubes::expand::launch(
            &out.client,
            CubeCount::Static(axis(cubes.min(AXIS)), axis(cubes.div_ceil(AXIS)), 1),
            CubeDim::new_1d(UNITS),
            packed.into_buffer_arg(),
            table.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            columns,
            self.bits,
            u32::MAX >> (32 - self.bits),
        );
        Ok(Tensor::from_primitive::<CubeBackend>(out))
    }

    /// `[vectors, columns]` to `[vectors, rows]`, without the matrix ever being whole.
    pub(crate) fn multiply(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let (packed, table) = self.buffers()?;
        let [rows, columns] = self.shape;
        let vectors = x.dims()[0];
        let x = into_contiguous(x.try_into_primitive::<CubeBackend>().map_err(other_device)?);
        let out = room(&table, [vectors, rows]);
        cubes::multiply::launch(
            &out.client,
            CubeCount::Static(axis(rows.min(AXIS)), axis(rows.div_ceil(AXIS)), axis(vectors)),
            CubeDim::new_1d(axis(ROW_UNITS)),
            packed.into_buffer_arg(),
            table.into_buffer_arg(),
            x.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            rows,
            columns,
            self.bits,
            u32::MAX >> (32 - self.bits),
            ROW_UNITS,
        );
        Ok(Tensor::from_primitive::<CubeBackend>(out))
    }

    /// Words of a row.
    fn words(&self) -> usize {
        self.shape[1].div_ceil((32 / self.bits) as usize)
    }

    fn buffers(&self) -> Result<(CubeTensor, CubeTensor)> {
        let packed = self.packed.clone().try_into_primitive::<CubeBackend>().map_err(other_device)?;
        let table = self.table.clone().try_into_primitive::<CubeBackend>().map_err(other_device)?;
        Ok((into_contiguous(packed), into_contiguous(table)))
    }
}

/// Room for f32 values beside `table`.
fn room(table: &CubeTensor, shape: [usize; 2]) -> CubeTensor {
    let (client, device) = (table.client.clone(), table.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(shape.to_vec()), table.dtype)
}

/// A count along one axis of the grid, which [`AXIS`] keeps small.
fn axis(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn other_device(e: impl std::fmt::Debug) -> Error {
    Error::invalid(format!("a tensor is not on the device of the packed weights: {e:?}"))
}
