//! Numbers to draw beforehand: places to read, orders to read them in, bytes that don't compress.

use rand_distr::{Distribution, Zipf};

/// A small generator of numbers (xorshift64), fast enough to draw from while measuring.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Random(0x2545_f491_4f6c_dd1d)
    }
}

impl Random {
    /// One with a stream of its own for each `seed`.
    pub fn seeded(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Random(word(seed, 0x9e37).max(1))
    }

    /// The next 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is below 2^32.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        (((self.bits() >> 32) * bound as u64) >> 32) as usize
    }
}

/// What farbench draws Zipf ranks with: rand's trait on our generator, so that the draws are the same on every machine.
impl rand::TryRng for Random {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.bits() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.bits())
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Self::Error> {
        for part in into.chunks_mut(8) {
            part.copy_from_slice(&self.bits().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

/// The numbers below `count`, in random order.
pub fn order(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for i in (1..count).rev() {
        order.swap(i, (random.bits() % (i as u64 + 1)) as usize);
    }
    order
}

/// `draws` numbers below `count`: uniform if `skew` is 0, otherwise by Zipf's law, with the often drawn ones scattered over the range.
pub fn zipf(count: usize, skew: f64, draws: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::seeded(seed);
    if skew == 0.0 {
        return (0..draws).map(|_| random.below(count) as u32).collect();
    }
    let places = order(count);
    let ranks = Zipf::new(count as f64, skew).expect("at least one number, a skew of at least 0");
    (0..draws).map(|_| places[(ranks.sample(&mut random) as usize).clamp(1, count) - 1]).collect()
}

/// A number that looks random and is a function of two others (splitmix64's last step): what data is filled with, so that it neither compresses
/// nor has to be kept twice to be checked.
#[inline]
pub fn word(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `N` words of the object with this number: incompressible, but for the last word, which is the number itself, to check by.
pub fn object<const N: usize>(number: u64) -> [u64; N] {
    let mut words = std::array::from_fn(|i| word(number, i as u64));
    words[N - 1] = number;
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_each_number_once() {
        let mut numbers = order(1000);
        assert_ne!(numbers, (0..1000).collect::<Vec<_>>());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn uniform_draws_reach_everything_about_equally_often() {
        let mut counts = [0u32; 16];
        zipf(16, 0.0, 16_000, 1).into_iter().for_each(|i| counts[i as usize] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn skewed_draws_prefer_one_number_as_zipf_says() {
        let mut counts = vec![0u32; 1000];
        zipf(1000, 1.0, 100_000, 1).into_iter().for_each(|i| counts[i as usize] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The first rank's share is 1 / H(1000) = 13.4%, the second's half of that.
        assert!((12_700..14_100).contains(&counts[0]), "{}", counts[0]);
        assert!((6_200..7_200).contains(&counts[1]), "{}", counts[1]);
    }

    #[test]
    fn objects_carry_their_number() {
        assert_eq!(object::<8>(7)[7], 7);
        assert_ne!(object::<8>(7)[..7], object::<8>(8)[..7]);
    }
}
