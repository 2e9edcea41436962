//! The likeliest tokens of rows of logits on a device, for a sampler on the host.

use crate::device::{Device, Number, Plain};
use crate::error::CudaError;
use crate::memory::{Memory, Place};
use std::sync::Arc;

/// What a sampler needs of a row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Want {
    /// The row among those of the logits.
    pub row: u32,
    /// This many of the likeliest tokens at least; 0: not by number.
    pub top_k: u32,
    /// Below 1, without `top_k`: tokens with this share of the probability at least.
    pub top_p: f32,
    /// Otherwise the tokens at most this far below the largest logit; with `top_k` none further below.
    pub distance: f32,
}

/// The likeliest tokens of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The largest logit; not finite if the row is no distribution.
    pub max: f32,
    /// Σ exp(logit − max) over all tokens.
    pub total: f32,
    /// All tokens whose logit is at least `floor`, in ascending order, each with its logit.
    pub tokens: Vec<(f32, i32)>,
    pub floor: f32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Found {
    max: f32,
    total: f32,
    first: u32,
    count: u32,
    nan: u32,
    floor: f32,
}

impl Plain for Want {}
impl Plain for Found {}

#[derive(Clone, Copy)]
#[repr(C)]
struct HeadsArguments {
    logits: Place,
    wants: Place,
    found: Place,
    tokens: Place,
    values: Place,
    taken: Place,
    vocabulary: u32,
    room: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct PicksArguments {
    logits: Place,
    places: Place,
    values: Place,
    vocabulary: u32,
    count: u32,
}

/// Logits on the device (rows, vocabulary), complete, which nothing changes meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Logits {
    place: Place,
    vocabulary: usize,
}

impl Logits {
    /// # Safety
    /// `address` is that of (rows, vocabulary) numbers in the device's memory, as many rows as are asked for, and they stay there.
    pub unsafe fn at(address: u64, vocabulary: usize) -> Self {
        Logits { place: Place(address), vocabulary }
    }
}

/// Reads heads of logits; holds the memory for them.
pub struct Heads {
    device: Arc<Device>,
    wants: Memory,
    found: Memory,
    tokens: Memory,
    values: Memory,
    taken: Memory,
    places: Memory,
    picked: Memory,
    rows: usize,
    room: usize,
}

/// Tokens of a row that there is room for, if all rows are asked for at once; more if there are fewer.
const TOKENS_PER_ROW: usize = 1024;

impl Heads {
    /// For at most `rows` rows at once.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(device: &Arc<Device>, rows: usize) -> Result<Self, CudaError> {
        let room = rows * TOKENS_PER_ROW;
        Ok(Heads {
            device: device.clone(),
            wants: device.memory(rows * size_of::<Want>())?,
            found: device.memory(rows * size_of::<Found>())?,
            tokens: device.memory(4 * room)?,
            values: device.memory(4 * room)?,
            taken: device.memory(4)?,
            places: device.memory(8 * room)?,
            picked: device.memory(4 * room)?,
            rows,
            room,
        })
    }

    /// The head of each row that is wanted; `None` if it is too long to be of use.
    ///
    /// # Errors
    /// More rows than there is memory for; the device fails.
    pub fn heads(&mut self, logits: Logits, wants: &[Want]) -> Result<Vec<Option<Head>>, CudaError> {
        if wants.len() > self.rows {
            return Err(CudaError(format!("{} rows of logits at once, at most {}", wants.len(), self.rows)));
        }
        self.device.upload(self.wants.place(), wants)?;
        self.device.zero(self.taken.place(), 4)?;
        let arguments = HeadsArguments {
            logits: logits.place,
            wants: self.wants.place(),
            found: self.found.place(),
            tokens: self.tokens.place(),
            values: self.values.place(),
            taken: self.taken.place(),
            vocabulary: logits.vocabulary as u32,
            room: self.room as u32,
        };
        self.device.launch("heads", Number::F32, [wants.len(), 1, 1], 1024, &arguments)?;
        let mut found = vec![Found::default(); wants.len()];
        self.device.download(self.found.place(), &mut found)?;
        let end = found.iter().filter(|found| found.count != u32::MAX).map(|found| found.first + found.count).max().unwrap_or(0);
        let (mut tokens, mut values) = (vec![0u32; end as usize], vec![0.0f32; end as usize]);
        self.device.download(self.tokens.place(), &mut tokens)?;
        self.device.download(self.values.place(), &mut values)?;
        Ok(found.iter().map(|found| head(found, &tokens, &values)).collect())
    }

    /// The logits of single tokens: (row, token).
    ///
    /// # Errors
    /// More tokens than there is memory for; the device fails.
    pub fn picks(&mut self, logits: Logits, picks: &[[u32; 2]]) -> Result<Vec<f32>, CudaError> {
        let mut values = vec![0.0; picks.len()];
        for (picks, values) in picks.chunks(self.room.max(1)).zip(values.chunks_mut(self.room.max(1))) {
            self.device.upload(self.places.place(), picks.as_flattened())?;
            let arguments = PicksArguments {
                logits: logits.place,
                places: self.places.place(),
                values: self.picked.place(),
                vocabulary: logits.vocabulary as u32,
                count: picks.len() as u32,
            };
            self.device.launch("picks", Number::F32, [picks.len().div_ceil(256), 1, 1], 256, &arguments)?;
            self.device.download(self.picked.place(), values)?;
        }
        Ok(values)
    }

    /// A whole row of logits.
    ///
    /// # Errors
    /// The device fails.
    pub fn row(&self, logits: Logits, row: usize) -> Result<Vec<f32>, CudaError> {
        let mut values = vec![0.0; logits.vocabulary];
        self.device.download(logits.place.words(row * logits.vocabulary), &mut values)?;
        Ok(values)
    }
}

fn head(found: &Found, tokens: &[u32], values: &[f32]) -> Option<Head> {
    if found.nan > 0 {
        return Some(Head { max: f32::NAN, ..Head::default() });
    }
    let range = found.first as usize..(found.first as usize).checked_add(found.count as usize)?;
    let mut head: Vec<(f32, i32)> = values.get(range.clone())?.iter().copied().zip(tokens.get(range)?.iter().map(|&t| t as i32)).collect();
    head.sort_unstable_by_key(|&(_, token)| token);
    Some(Head { max: found.max, total: found.total, tokens: head, floor: found.floor })
}

#[cfg(test)]
#[cfg(feature = "emulated")]
mod tests {
    use super::*;

    /// Three rows: a peaked one, a flat one, one with a NaN.
    fn rows(vocabulary: usize) -> Vec<f32> {
        let wave = |i: usize, scale: f32| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * scale;
        let mut all: Vec<f32> = (0..vocabulary).map(|i| wave(i, 20.0)).chain((0..vocabulary).map(|i| wave(i + 13, 0.1))).collect();
        all.extend((0..vocabulary).map(|i| if i == 77 { f32::NAN } else { 0.5 }));
        all[5] = f32::NEG_INFINITY;
        all
    }

    fn read(wants: &[Want]) -> (Vec<f32>, Vec<Option<Head>>) {
        let (device, rows) = (Device::emulated(), rows(3000));
        let memory = device.uploaded(&rows).unwrap();
        // SAFETY: three rows of 3,000 numbers, which live as long as `memory`.
        let logits = unsafe { Logits::at(memory.place().0, 3000) };
        let found = Heads::new(&device, 4).unwrap().heads(logits, wants).unwrap();
        (rows, found)
    }

    fn want(row: u32) -> Want {
        Want { row, top_k: 0, top_p: 1.0, distance: f32::INFINITY }
    }

    /// A head has every token from its floor on, and no other.
    fn is_whole(head: &Head, row: &[f32]) {
        let all: Vec<(f32, i32)> = row.iter().zip(0..).filter(|(x, _)| **x >= head.floor).map(|(&x, i)| (x, i)).collect();
        assert_eq!(head.tokens, all);
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
        assert!(head.max == max && (f64::from(head.total) / total - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_head_has_what_is_wanted() {
        let (rows, found) = read(&[
            Want { top_k: 40, ..want(0) },
            Want { top_p: 0.9, ..want(0) },
            Want { distance: 2.5, ..want(0) },
            Want { top_k: 40, distance: 0.05, ..want(0) },
        ]);
        let row = &rows[..3000];
        let heads: Vec<Head> = found.into_iter().map(Option::unwrap).collect();
        heads.iter().for_each(|head| is_whole(head, row));
        assert!((40..80).contains(&heads[0].tokens.len()), "{}", heads[0].tokens.len());
        let mass: f32 = heads[1].tokens.iter().map(|(x, _)| (x - heads[1].max).exp()).sum();
        assert!(mass >= 0.9 * heads[1].total && heads[1].tokens.len() < 3000);
        assert_eq!(heads[2].floor, heads[2].max - 2.5);
        assert_eq!(heads[3].floor, heads[3].max - 0.05);
    }

    #[test]
    fn rows_without_a_short_head_and_bad_rows_are_told() {
        let (rows, found) = read(&[want(1), Want { distance: 0.0, ..want(1) }, Want { top_k: 3, ..want(2) }, want(1)]);
        assert_eq!(found[1].as_ref().map(|head| head.tokens.is_empty()), Some(false));
        is_whole(found[1].as_ref().unwrap(), &rows[3000..6000]);
        assert!(found[2].as_ref().unwrap().max.is_nan());
        // There is room for 4,096 tokens, 1,024 of each row.
        assert!(found[0].is_none() && found[3].is_none());
    }

    #[test]
    fn single_tokens_and_whole_rows_can_be_read() {
        let (device, rows) = (Device::emulated(), rows(1000));
        let memory = device.uploaded(&rows).unwrap();
        // SAFETY: as above.
        let logits = unsafe { Logits::at(memory.place().0, 1000) };
        let mut heads = Heads::new(&device, 1).unwrap();
        let picks: Vec<[u32; 2]> = (0..1500).map(|i| [i % 2, i * 31 % 1000]).collect();
        let wanted: Vec<f32> = picks.iter().map(|&[row, token]| rows[(row * 1000 + token) as usize]).collect();
        assert_eq!(heads.picks(logits, &picks).unwrap(), wanted);
        assert_eq!(heads.row(logits, 1).unwrap(), &rows[1000..2000]);
        assert!(heads.heads(logits, &[want(0), want(1)]).is_err());
    }
}
