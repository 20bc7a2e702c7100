//! Uniform random reads of boxes of which few are present: what a miss costs.

use crate::random::{Random, object};
use farptr::{Far, FarMemory, RemBox};

/// Boxes of `N` words, and where to read next.
#[derive(Debug)]
pub struct FarReads<const N: usize>
where
    [u64; N]: Far,
{
    boxes: Vec<RemBox<[u64; N]>>,
    random: Random,
}

impl<const N: usize> FarReads<N>
where
    [u64; N]: Far,
{
    /// As many boxes as there are in `data` bytes.
    ///
    /// # Errors
    /// If far memory has no room for them.
    pub fn fill(mem: &FarMemory, data: usize) -> farptr::Result<Self> {
        let boxes = (0..data / (N * 8)).map(|i| RemBox::try_new_in(object(i as u64), mem)).collect::<Result<_, _>>()?;
        Ok(FarReads { boxes, random: Random::default() })
    }

    /// The boxes.
    pub fn boxes(&self) -> &[RemBox<[u64; N]>] {
        &self.boxes
    }

    /// Reads `turns` of them one after the other, and checks what is there.
    ///
    /// # Errors
    /// If an object can't be had.
    pub fn read(&mut self, turns: u64) -> farptr::Result<()> {
        for _ in 0..turns {
            let i = self.random.below(self.boxes.len());
            assert_eq!(self.boxes[i].try_with(|value| value[N - 1])?, i as u64, "an object's last word is its number");
        }
        Ok(())
    }
}
