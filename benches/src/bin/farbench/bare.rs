//! Bare operations of a transport, without objects: the floor under misses.
//!
//! This is the one place that needs more than programs do: `farptr` has no use for operations on slabs.

use crate::Outcome;
use crate::transport::Kind;
use farptr_benches::random::Random;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::shm::{ShmConfig, ShmTransport};
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{Completion, IoBuf, MAX_OP_BYTES, Op, Session, SlabId, SlabPos, Submit, Token, Transport, Verb};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// The way to a server, without farptr.
pub(crate) fn connect(kind: Kind, address: &str) -> Outcome<Arc<dyn Transport>> {
    let after = |prefix: &str| address.strip_prefix(prefix).ok_or_else(|| format!("{address} is not of {kind}"));
    Ok(match kind {
        Kind::Embedded => Arc::new(EmbeddedTransport::new(EmbeddedConfig::with_capacity(1 << 40))?),
        Kind::Shm => Arc::new(ShmTransport::connect(ShmConfig::new(after("unix:")?))?),
        Kind::Tcp => Arc::new(TcpTransport::connect(TcpConfig::new(after("tcp:")?))?),
        #[cfg(feature = "rdma")]
        Kind::Rdma => {
            use farptr_runtime::transport::rdma::{RdmaConfig, RdmaTransport};
            Arc::new(RdmaTransport::connect(RdmaConfig::new(after("rdma:")?))?)
        }
        #[cfg(not(feature = "rdma"))]
        Kind::Rdma => return Err(crate::device::UNBUILT.into()),
    })
}

/// Reads of so many bytes from random places of borrowed slabs, so many in flight.
pub(crate) struct BareReads {
    transport: Arc<dyn Transport>,
    session: Box<dyn Session>,
    slabs: Vec<SlabId>,
    buffers: Vec<IoBuf>,
    done: Vec<Completion>,
    in_flight: usize,
    bytes: usize,
    random: Random,
}

impl BareReads {
    /// Borrows slabs of `data` bytes together, and writes all of them, so that their pages are there.
    pub(crate) fn new(transport: Arc<dyn Transport>, data: usize, bytes: usize, in_flight: usize) -> Outcome<Self> {
        let slab_bytes = transport.slab_bytes() as usize;
        let slabs = (0..data.div_ceil(slab_bytes)).map(|_| transport.borrow_slab()).collect::<Result<Vec<_>, _>>()?;
        let session = transport.open_session()?;
        let mut bare = BareReads {
            transport,
            session,
            slabs,
            buffers: Vec::new(),
            done: Vec::new(),
            in_flight,
            bytes,
            random: Random::default(),
        };
        let mut full = Some(IoBuf::from(vec![7; MAX_OP_BYTES]));
        for slab in 0..bare.slabs.len() {
            for offset in (0..slab_bytes).step_by(MAX_OP_BYTES) {
                let at = SlabPos { slab: bare.slabs[slab], offset: offset as u32 };
                let buf = full.take().ok_or("a write took its buffer along")?;
                bare.submit(Op { token: Token(0), verb: Verb::Write, at, buf })?;
                full = Some(bare.next_done()?.buf);
            }
        }
        bare.buffers = (0..in_flight).map(|_| IoBuf::from(vec![0; bytes])).collect();
        Ok(bare)
    }

    fn submit(&mut self, mut op: Op) -> Outcome {
        loop {
            match self.session.submit(op) {
                Submit::Accepted => return Ok(()),
                Submit::Failed(_, error) => return Err(error.into()),
                Submit::Busy(back) => {
                    op = back;
                    let _ = self.session.poll(Instant::now(), &mut self.done);
                }
            }
        }
    }

    /// The next operation that ends. Spins.
    fn next_done(&mut self) -> Outcome<Completion> {
        loop {
            if let Some(done) = self.done.pop() {
                done.result.clone()?;
                return Ok(done);
            }
            let _ = self.session.poll(Instant::now(), &mut self.done);
            if self.done.is_empty() {
                std::thread::yield_now();
            }
        }
    }

    fn place(&mut self) -> SlabPos {
        let slab = self.slabs[self.random.below(self.slabs.len())];
        let places = self.transport.slab_bytes() as usize / self.bytes;
        SlabPos { slab, offset: (self.random.below(places) * self.bytes) as u32 }
    }

    /// Makes `count` reads.
    pub(crate) fn read(&mut self, count: u64) -> Outcome {
        if self.transport.immediate().is_some() {
            return self.copy(count);
        }
        for number in 0..count.min(self.in_flight as u64) {
            let (at, buf) = (self.place(), self.buffers.pop().ok_or("more reads than buffers")?);
            self.submit(Op { token: Token(number), verb: Verb::Read, at, buf })?;
        }
        for number in self.in_flight as u64..count.max(self.in_flight as u64) {
            let buf = self.next_done()?.buf;
            let at = self.place();
            self.submit(Op { token: Token(number), verb: Verb::Read, at, buf })?;
        }
        while self.buffers.len() < self.in_flight.min(count as usize) {
            let buf = self.next_done()?.buf;
            self.buffers.push(buf);
        }
        Ok(())
    }

    /// The same where lent memory is mapped: no session, no completion, just the copy, as farptr does it.
    fn copy(&mut self, count: u64) -> Outcome {
        let mut buf = self.buffers.pop().ok_or("no buffer")?;
        for _ in 0..count {
            let at = self.place();
            self.transport.immediate().ok_or("not mapped")?.read_at(at, buf.as_mut_slice())?;
            black_box(buf.as_slice());
        }
        self.buffers.push(buf);
        Ok(())
    }
}

impl Drop for BareReads {
    fn drop(&mut self) {
        for slab in self.slabs.drain(..) {
            // The server takes them back anyway when the connection ends.
            let _ = self.transport.return_slab(slab);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reads_end_with_any_number_in_flight() {
        for in_flight in [1, 3, 64] {
            let transport = connect(Kind::Embedded, "embedded:").expect("a lender");
            let mut bare = BareReads::new(transport, 1 << 20, 4096, in_flight).expect("slabs");
            for count in [1, 2, 100] {
                bare.read(count).expect("reads");
            }
            assert_eq!(bare.buffers.len(), in_flight);
        }
    }
}
