//! Mechanisms that can be turned off, to measure what each brings. For measurements only: feature `ablations`.
//!
//! Everybody asks [`Memory::ablations`](crate::memory::Memory::ablations) or is told when a memory is set up. Without the feature the answer is a constant,
//! and nothing is left of the question. A new one is a field here, a question where the mechanism is, and a test in `farptr/tests/ablations.rs`.
#![forbid(unsafe_code)]

/// What is off. The default: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ablations {
    /// Which objects leave.
    pub policy: Policy,
    /// When evacuation starts and stops.
    pub marks: Marks,
    /// What a thread does that meets a miss of another.
    pub misses: Misses,
    /// How objects are written that leave.
    pub far_log: FarLogWrites,
    /// Behind the log and the slots. Large objects and lent memory are as they are.
    pub pages: Pages,
    /// What a long scan does when local memory is full.
    pub scans: Scans,
    /// What the first read of an object does when local memory is full and hardly anything is read again soon.
    pub first_reads: FirstReads,
}

impl Ablations {
    /// As AIFM does it (Ruan et al., OSDI 2020), as far as it is a matter of what can be turned off here.
    pub const AIFM_LIKE: Self = Ablations {
        policy: Policy::Clock,
        marks: Marks::Aifm,
        misses: Misses::Joined,
        far_log: FarLogWrites::EachObject,
        pages: Pages::Huge,
        scans: Scans::SwappedIn,
        first_reads: FirstReads::SwappedIn,
    };
}

/// The hotness policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// S3-FIFO, as it is.
    #[default]
    S3Fifo,
    /// CLOCK: one queue, in which a used object is given another turn, and a miss is a use. The counter has one bit (AIFM's counts to two), since a hit that
    /// stores nothing can't count further.
    Clock,
    /// One queue, in which nothing is spared.
    ArrivalOrder,
}

/// The watermarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marks {
    /// As they are.
    #[default]
    Own,
    /// AIFM's: evacuation starts at 12% and stops at 22% of the heap, and the last 3% are not for mutators.
    Aifm,
}

/// Two threads that miss one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misses {
    /// The later one waits for the fetch of the first.
    #[default]
    Joined,
    /// The later one fetches as well, and drops its copy. Only a blocking deref does; the async forms join, whatever this says.
    Apart,
}

/// Writes of the far log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FarLogWrites {
    /// Many objects in one.
    #[default]
    Batched,
    /// One for each object, one after the other.
    EachObject,
}

/// Objects that a long scan misses when local memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scans {
    /// Most of them are read past the local heap.
    #[default]
    Past,
    /// They are swapped in as all others are.
    SwappedIn,
}

/// Objects that are read and that nobody has asked for lately, from mapped memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstReads {
    /// Read past the local heap where hardly any is used again while it is young.
    #[default]
    Past,
    /// They are swapped in as all others are.
    SwappedIn,
}

/// Sizes of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// Huge ones, if the kernel likes.
    #[default]
    Huge,
    /// Small ones, even if the kernel would rather give others.
    Small,
}
