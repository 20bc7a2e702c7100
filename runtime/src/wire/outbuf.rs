//! Bytes on their way out.
#![forbid(unsafe_code)]

/// Capacity kept when all is sent: what one of the largest writes needs. What a burst needed beyond it is given back.
const KEEP: usize = 512 << 10;

/// A queue of bytes in one contiguous piece, so that everything queued goes out in one send.
///
/// Its memory is initialised once, when it first grows, and then reused; a caller fills what [`grow`](Self::grow) returns in
/// place, which saves a payload its second copy.
#[derive(Debug, Default)]
pub(super) struct OutBuf {
    bytes: Vec<u8>,
    head: usize,
    tail: usize,
    /// Bytes sent, ever.
    sent: u64,
}

impl OutBuf {
    /// Appends room for `len` bytes, with unspecified content.
    #[inline]
    pub(super) fn grow(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.tail < len {
            self.make_room(len);
        }
        let at = self.tail;
        self.tail += len;
        &mut self.bytes[at..at + len]
    }

    /// Appends `bytes`.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    /// Takes the last `len` bytes back.
    pub(super) fn shrink(&mut self, len: usize) {
        self.tail -= len.min(self.len());
    }

    /// What is to be sent.
    #[inline]
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.head..self.tail]
    }

    /// How many bytes are to be sent.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tail - self.head
    }

    /// `len` bytes of what was pending have been sent.
    #[inline]
    pub(super) fn sent(&mut self, len: usize) {
        let len = len.min(self.len());
        self.head += len;
        self.sent += len as u64;
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }

    /// Which byte of all that are ever sent the next one to be sent is.
    pub(super) fn next_sent(&self) -> u64 {
        self.sent
    }

    /// Which byte of all that are ever sent the next one to be appended will be.
    pub(super) fn next_appended(&self) -> u64 {
        self.sent + self.len() as u64
    }

    /// Gives memory back that only a burst needed. For moments without traffic.
    pub(super) fn trim(&mut self) {
        if self.tail == 0 && self.bytes.len() > KEEP {
            self.bytes = Vec::new();
        }
    }

    #[cold]
    fn make_room(&mut self, len: usize) {
        // Moving down only when at least as much has been sent as is pending keeps the cost of moving below that of sending.
        if self.head >= self.len() {
            self.bytes.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        let needed = self.tail + len;
        if self.bytes.len() < needed {
            self.bytes.resize(needed.next_power_of_two().max(4096), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_however_they_are_sent() {
        let mut out = OutBuf::default();
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for round in 0..2000usize {
            let piece: Vec<u8> = (0..round % 97).map(|i| (i * 7 + round) as u8).collect();
            out.push(&piece);
            expected.extend_from_slice(&piece);
            let now = (round * 31) % 90;
            let now = now.min(out.len());
            sent.extend_from_slice(&out.pending()[..now]);
            out.sent(now);
        }
        sent.extend_from_slice(out.pending());
        assert_eq!(sent, expected);
        assert!(out.bytes.len() <= 64 << 10, "a queue that is drained must not grow");
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut out = OutBuf::default();
        out.grow(4 << 20);
        out.trim();
        assert_eq!(out.len(), 4 << 20, "unsent bytes stay");
        out.sent(4 << 20);
        out.trim();
        assert_eq!(out.bytes.capacity(), 0);
    }
}
