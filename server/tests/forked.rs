//! Children of forks.
//!
//! The story: a child that wrote far objects destroyed up to 3,098 of its parent's 4,000, because it shared the parent's connections and mapped slabs, and took pieces of its far log for free. Or it
//! waited for a lock that a thread held which the child does not have.

mod common;

use common::{Farmemd, numbers, zeal_contradicts};
use farptr::{Cursor, Error, FarMemory, RemBox, RemHashMap, RemVec};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

const LOCAL: usize = 2 << 20;

/// Children of each kind of fork, while others are at work.
const CHILDREN: usize = 20;

/// A child that has not ended after so many seconds is ended, which fails the test.
const DEADLINE: u32 = 10;

/// Runs `child` in a child, and returns its wait status.
fn fork(bare: bool, child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: `fork` and a `clone` that shares nothing are the same to the child: a copy of this thread. It calls `child`, which allocates nothing where the fork was a bare one, and ends without
    // destructors. An alarm ends it if it hangs.
    unsafe {
        let pid = if bare { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t } else { libc::fork() };
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            libc::alarm(DEADLINE);
            libc::_exit(child());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        status
    }
}

fn is_refused<T>(outcome: Result<T, Error>) -> bool {
    matches!(outcome.map(drop), Err(Error::Forked))
}

/// A future that has ended with its first poll.
fn is_refused_at_once<T>(future: impl Future<Output = Result<T, Error>>) -> bool {
    let poll = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    matches!(poll, Poll::Ready(Err(Error::Forked)))
}

struct Data {
    boxes: Vec<RemBox<[u64; 100]>>,
    vec: RemVec<u64>,
    map: RemHashMap<u64, [u64; 20]>,
    owners: RemVec<RemBox<u64>>,
}

impl Data {
    fn new(mem: &FarMemory) -> Self {
        let boxes = (0..6000).map(|n| RemBox::new_in([n; 100], mem)).collect();
        let (mut vec, mut map, mut owners) = (RemVec::new_in(mem), RemHashMap::new_in(mem), RemVec::new_in(mem));
        vec.extend(0..200_000);
        map.extend((0..5000).map(|key| (key, [key; 20])));
        owners.extend((0..500).map(|n| RemBox::new_in(n, mem)));
        Data { boxes, vec, map, owners }
    }

    /// What a child is refused: zero, or the number of what it was not. Looks for something that is far first, since what is hot and local may be read.
    fn is_refused_in_a_child(&mut self, mem: &FarMemory) -> i32 {
        let Some(far) = self.boxes.iter().position(|value| !value.is_local()) else { return 1 };
        let far = &mut self.boxes[far];
        // A local object that is hot needs no help; any other outcome but these two is wrong.
        let scans = |outcome: Result<(), Error>| outcome.is_ok() || is_refused(outcome);
        let checks = [
            is_refused(far.try_with(|_| ())),
            is_refused(far.try_with_mut(|value| value[0] = 1)),
            is_refused(far.try_get(&farptr::scope())),
            is_refused(far.try_get_mut(&farptr::scope())),
            is_refused(far.try_pin()),
            is_refused(far.try_pin_mut()),
            is_refused(Cursor::try_new(far)),
            is_refused_at_once(far.with_async(|_| ())),
            is_refused_at_once(far.pin_mut_async()),
            is_refused(RemBox::try_new_in(7_u64, mem)),
            is_refused(self.vec.try_for_each_slice(.., |_, _| ())),
            is_refused(self.vec.try_for_each_slice_mut(.., |_, slice| slice.fill(0))),
            scans(self.vec.try_with(1000, |_| ()).map(drop)),
            scans(self.map.try_with(&5, |_| ()).map(drop)),
            is_refused(self.map.try_insert(1 << 40, [0; 20])),
            is_refused(self.map.try_remove(&7)),
            is_refused(mem.evacuate_all()),
            is_refused(mem.trim()),
            is_refused(mem.spawn(0, || async {})),
            mem.stats().local_used_bytes <= LOCAL as u64,
        ];
        checks.iter().position(|holds| !holds).map_or(0, |number| number as i32 + 10)
    }

    fn assert_intact(&self) {
        for (number, value) in self.boxes.iter().enumerate() {
            value.with(|value| assert_eq!(*value, [number as u64; 100]));
        }
        let mut next = 0;
        self.vec.for_each_slice(.., |_, slice| {
            slice.iter().for_each(|value| {
                assert_eq!(*value, next);
                next += 1;
            });
        });
        assert_eq!(next, 200_000);
        assert_eq!(self.map.len(), 5000);
        self.map.for_each(|key, value| assert_eq!(*value, [*key; 20]));
        let mut sum = 0;
        self.owners.for_each_slice(.., |_, slice| sum += slice.iter().map(|owned| owned.with(|n| *n)).sum::<u64>());
        assert_eq!(sum, 499 * 250);
    }
}

fn children_are_refused(mem: FarMemory) {
    let mut data = Data::new(&mem);
    let mut spare = Some((Data::new(&mem), mem.clone()));
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Threads that hold locks, and are in the middle of things, whenever the others fork.
        for seed in 1..3 {
            let (mem, done) = (&mem, &done);
            threads.spawn(move || {
                let mut next = numbers(seed);
                let mut own: Vec<_> = (0..3000).map(|n| RemBox::new_in([n; 100], mem)).collect();
                while !done.load(Ordering::Relaxed) {
                    let number = next() as usize % own.len();
                    own[number].with_mut(|value| value[1] = next());
                    if next().is_multiple_of(16) {
                        own[number] = RemBox::new_in([number as u64; 100], mem);
                    }
                }
            });
        }
        for number in 0..2 * CHILDREN {
            let bare = number % 2 == 1;
            let status = fork(bare, || {
                let refused = data.is_refused_in_a_child(&mem);
                // Drops leave everything as it is, also of what has something to drop. A bare child's allocator may be locked.
                if !bare {
                    drop(spare.take());
                }
                refused
            });
            assert_eq!(status, 0, "child {number}: exit {}, signal {}", status >> 8, status & 0x7f);
        }
        done.store(true, Ordering::Relaxed);
    });
    data.assert_intact();
    let (other, mem_too) = spare.expect("children had copies");
    other.assert_intact();
    // The last owner goes in a child: the memory behind it is still the parent's.
    drop((other, mem_too, mem));
    let mut last = Some(data);
    let status = fork(false, || {
        drop(last.take());
        0
    });
    assert_eq!(status, 0);
    last.expect("a child had a copy").assert_intact();
}

#[test]
fn a_child_is_refused_and_its_parent_unharmed_in_this_process() {
    children_are_refused(FarMemory::builder().local_budget(LOCAL).server("embedded:").build().unwrap());
}

#[test]
fn a_child_is_refused_and_its_parent_unharmed_over_tcp() {
    children_are_refused(Farmemd::start("64MiB").memory(LOCAL));
}

#[test]
fn a_child_is_refused_and_its_parent_unharmed_over_mapped_memory() {
    children_are_refused(Farmemd::at_socket("64MiB").memory(LOCAL));
}

/// Scopes, and threads of its own, are nothing that a child shares. It ends as other processes do, destructors and all.
#[test]
fn a_child_may_have_scopes_and_threads_and_ends_in_order() {
    if zeal_contradicts("a_child_may_have_scopes_and_threads_and_ends_in_order", "nothing stays local") {
        return;
    }
    let mem = FarMemory::builder().local_budget(LOCAL).server("embedded:").build().unwrap();
    let hot = RemBox::new_in([7_u64; 4], &mem);
    hot.with(|_| ());
    let status = fork(false, || {
        let in_a_thread = std::thread::spawn(|| drop((farptr::scope(), farptr::scope())));
        let read = hot.try_with(|value| value[3] == 7);
        let built = FarMemory::builder().local_budget(LOCAL).server("embedded:").build();
        i32::from(in_a_thread.join().is_err()) + 2 * i32::from(!matches!(read, Ok(true))) + 4 * i32::from(!is_refused(built))
    });
    assert_eq!(status, 0, "exit {}, signal {}", status >> 8, status & 0x7f);
    hot.with(|value| assert_eq!(value[3], 7));
}
