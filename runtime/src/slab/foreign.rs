//! Copies of bytes that another process may write at the same time.
//!
//! The compiler sees no access to such bytes. For a copy that it understands, a write by another process would be a data race, from which it may
//! conclude anything; machine code that it doesn't see into merely moves whatever bytes are there, each read once.
//!
//! # Copied and summed in one go
//! What a copy has stored can't be summed before it has arrived in the cache, and its place has not been in there for long: an object of 4 KiB waits 150 to 250 ns
//! for that, a fifth of its miss. [`copy_summed`] sums the registers on their way. By folding (Gopal et al., "Fast CRC Computation for Generic Polynomials
//! Using PCLMULQDQ Instruction", Intel 2009), 256 bytes a turn, on processors that multiply 64 bytes at a time (AVX-512 and VPCLMULQDQ); others copy, then sum.

use crate::sum::crc32c;

/// How much of a copy's source and target is asked for before it begins: of the source two lines, from which the processor's own prefetcher goes on;
/// of the target what is fetched while the source's translation is looked up.
#[cfg(target_arch = "x86_64")]
const COPY_SOURCE_BYTES: usize = 128;
#[cfg(target_arch = "x86_64")]
const COPY_TARGET_BYTES: usize = 8 << 10;

/// Asks the processor for what a copy of `len` bytes will touch first.
///
/// An object is read from a page, and into a room, that were used long ago. The page's translation takes longest (250 ns measured), and nothing behind the
/// instruction that needs it first can retire before it is known; until then the room's lines are fetched. So no locked instruction, which waits
/// for all before it, may stand between this and the copy. What was tried and is worse: to ask for the source before the room was allocated,
/// for more of the source, for the room's lines to be written (`prefetchw`), and for the room of the next object.
#[inline(always)]
pub(super) fn prefetch_copy(from: *const u8, to: *const u8, len: usize) {
    prefetch_source(from, len);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        for line in (0..len.min(COPY_TARGET_BYTES)).step_by(64) {
            // SAFETY: a hint, which reads nothing and may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(to.wrapping_add(line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (to, len);
}

/// As [`prefetch_copy`], for a copy that is [summed](copy_summed): to ask for its target as well made it slower.
#[inline(always)]
fn prefetch_source(from: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len.min(COPY_SOURCE_BYTES)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, len);
}

/// `memcpy`, by a pointer that the compiler knows nothing about. It costs what the call of `memcpy`, which a copy of unknown length is in any case, costs.
///
/// # Safety
/// Both ranges are mapped, `from` to be read and `to` to be written, and don't overlap; no other thread of this process writes `from`
/// or touches `to` meanwhile.
#[inline]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    type Copy = unsafe extern "C" fn(*mut libc::c_void, *const libc::c_void, usize) -> *mut libc::c_void;
    let copy: Copy = std::hint::black_box(libc::memcpy as Copy);
    // SAFETY: the caller's promise is what `memcpy` asks for.
    unsafe { copy(to.cast(), from.cast(), len) };
}

/// `memset` to zero, as [`copy`].
///
/// # Safety
/// The range is mapped to be written, and no other thread of this process touches it meanwhile.
pub(super) unsafe fn zero(at: *mut u8, len: usize) {
    type Set = unsafe extern "C" fn(*mut libc::c_void, libc::c_int, usize) -> *mut libc::c_void;
    let set: Set = std::hint::black_box(libc::memset as Set);
    // SAFETY: the caller's promise is what `memset` asks for.
    unsafe { set(at.cast(), 0, len) };
}

/// As [`copy`], and returns the CRC-32C of the bytes that are in `to` then.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub(super) unsafe fn copy_summed(from: *const u8, to: *mut u8, len: usize) -> u32 {
    prefetch_source(from, len);
    #[cfg(target_arch = "x86_64")]
    if len >= folding::LEAST && folding::is_supported() {
        // SAFETY: the caller's promise; the processor has what it takes, and there is enough to fold.
        return unsafe { folding::copy_summed(from, to, len) };
    }
    // SAFETY: the caller's promise.
    unsafe { copy(from, to, len) };
    // SAFETY: all of it has just been written, and nobody else touches it meanwhile.
    crc32c(unsafe { std::slice::from_raw_parts(to, len) })
}

#[cfg(target_arch = "x86_64")]
mod folding {
    use super::copy;
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512i, _mm_crc32_u8, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_set_epi64x, _mm512_broadcast_i32x4,
        _mm512_clmulepi64_epi128, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512, _mm512_zextsi128_si512,
    };

    /// A register.
    const WIDE: usize = 64;

    /// Registers folded side by side, so that a multiplication needn't wait for the one before it.
    const LANES: usize = 4;

    /// The shortest copy that is folded.
    pub(super) const LEAST: usize = LANES * WIDE;

    /// Castagnoli's polynomial without its highest power; the lowest bit is the highest that is left.
    const POLYNOMIAL: u32 = 0x82f6_3b78;

    /// x to the power of `bits`, modulo the polynomial, as the multiplication of reflected operands wants it.
    const fn power(bits: usize) -> i64 {
        let (mut power, mut left) = (1u32 << 31, bits);
        while left > 0 {
            power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            left -= 1;
        }
        (power as i64) << 1
    }

    /// By what the two halves of 16 bytes are multiplied to be worth the same `BYTES` bytes later.
    struct Later<const BYTES: usize>;

    impl<const BYTES: usize> Later<BYTES> {
        const LOW: i64 = power(BYTES * 8 + 32);
        const HIGH: i64 = power(BYTES * 8 - 32);
    }

    #[inline]
    pub(super) fn is_supported() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("vpclmulqdq") && is_x86_feature_detected!("sse4.2")
    }

    /// # Safety
    /// As for [`copy`]; `len` is at least [`LEAST`], and the processor [`is_supported`].
    #[target_feature(enable = "avx512f,vpclmulqdq,sse4.2")]
    pub(super) unsafe fn copy_summed(from: *const u8, to: *mut u8, len: usize) -> u32 {
        // Called for places in both ranges only.
        let moved = |at: usize| {
            let bytes: __m512i;
            // SAFETY: reads 64 bytes of the source, which by the caller's promise is mapped.
            unsafe {
                asm!("vmovdqu64 {}, [{}]", out(zmm_reg) bytes, in(reg) from.add(at), options(nostack, preserves_flags, readonly));
            }
            // SAFETY: within the target, which is mapped to be written and the caller's alone.
            unsafe { _mm512_storeu_si512(to.add(at).cast(), bytes) };
            bytes
        };
        let by = |low: i64, high: i64| _mm512_broadcast_i32x4(_mm_set_epi64x(high, low));
        let folded = |lane: __m512i, by: __m512i, next: __m512i| {
            let (low, high) = (_mm512_clmulepi64_epi128::<0x00>(lane, by), _mm512_clmulepi64_epi128::<0x11>(lane, by));
            // The exclusive or of all three.
            _mm512_ternarylogic_epi64::<0x96>(low, high, next)
        };

        let mut lanes = [moved(0), moved(WIDE), moved(2 * WIDE), moved(3 * WIDE)];
        // A sum begins with all ones.
        lanes[0] = _mm512_xor_si512(lanes[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(-1)));
        let mut at = LANES * WIDE;
        let turn = by(Later::<{ LANES * WIDE }>::LOW, Later::<{ LANES * WIDE }>::HIGH);
        while at + LANES * WIDE <= len {
            for (number, lane) in lanes.iter_mut().enumerate() {
                *lane = folded(*lane, turn, moved(at + number * WIDE));
            }
            at += LANES * WIDE;
        }
        let step = by(Later::<WIDE>::LOW, Later::<WIDE>::HIGH);
        let [first, rest @ ..] = lanes;
        let mut sum = rest.into_iter().fold(first, |sum, lane| folded(sum, step, lane));
        while at + WIDE <= len {
            sum = folded(sum, step, moved(at));
            at += WIDE;
        }

        // What is folded has the sum of all that it stands for.
        let mut words = [0u64; WIDE / 8];
        // SAFETY: 64 bytes of ours.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), sum) };
        let mut crc = words.into_iter().fold(0, |crc, word| _mm_crc32_u64(crc, word));
        // SAFETY: the rest of both ranges; by the caller's promise.
        unsafe { copy(from.add(at), to.add(at), len - at) };
        // SAFETY: the end of the target, just written and the caller's alone.
        let tail = unsafe { std::slice::from_raw_parts(to.add(at), len - at) };
        let (words, bytes) = tail.as_chunks::<8>();
        for word in words {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        }
        !bytes.iter().fold(crc as u32, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the ends of registers, turns and words, at every place relative to a line.
    #[test]
    fn what_is_copied_is_what_is_summed() {
        let source: Vec<u8> = (0u32..5000).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let mut target = vec![0xee; 5000];
        let lengths = (0..1100).chain([2048, 4095, 4096, 4097, 4800]);
        for (turn, len) in lengths.enumerate() {
            let (at, to) = (turn * 7 % 67, turn * 13 % 71);
            target.fill(0xee);
            // SAFETY: both ranges lie in vectors of ours.
            let sum = unsafe { copy_summed(source[at..at + len].as_ptr(), target[to..to + len].as_mut_ptr(), len) };
            assert_eq!(target[to..to + len], source[at..at + len], "{len} bytes");
            assert!(target[..to].iter().chain(&target[to + len..]).all(|byte| *byte == 0xee), "{len} bytes, and no more");
            assert_eq!(sum, crc32c(&source[at..at + len]), "{len} bytes");
        }
    }

    /// One bit of any of them changes the sum: all of them are in it.
    #[test]
    fn every_byte_is_in_the_sum() {
        let mut source = vec![0x5a; 1000];
        let mut target = vec![0; 1000];
        // SAFETY: both are vectors of ours, of that length.
        let mut sum_of = |source: &[u8]| unsafe { copy_summed(source.as_ptr(), target.as_mut_ptr(), 1000) };
        let whole = sum_of(&source);
        for at in 0..1000 {
            source[at] ^= 0x10;
            assert_ne!(sum_of(&source), whole, "byte {at}");
            source[at] ^= 0x10;
        }
    }
}
