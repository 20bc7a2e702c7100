//! The few things asked of the kernel directly.

use std::sync::OnceLock;

/// How the evacuator makes every running thread's earlier stores visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// The kernel interrupts the other threads (`membarrier`): scopes need no fence.
    Expedited,
    /// The kernel refuses: every scope's entry is a full fence.
    Fences,
}

/// Which barrier this process can use. Asked once.
pub fn barrier() -> Barrier {
    static KIND: OnceLock<Barrier> = OnceLock::new();
    *KIND.get_or_init(|| match membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) {
        Ok(()) if membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).is_ok() => Barrier::Expedited,
        _ => Barrier::Fences,
    })
}

/// Issues the expedited barrier. False if the kernel refused, which it does not once registration has succeeded, unless the calling thread has been
/// forbidden the system call since.
pub fn expedited_barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).is_ok()
}

fn membarrier(command: libc::c_int) -> Result<(), std::io::Error> {
    // SAFETY: membarrier takes integers only and touches no memory of ours; a kernel without it returns ENOSYS.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Why io_uring, which the glommio shards need, can't be used by this process; `Ok` if it can.
pub fn probe_io_uring() -> Result<(), String> {
    // What `struct io_uring_params` must be at least: 120 bytes, zeroed; the kernel writes to it.
    let mut params = [0u64; 15];
    // SAFETY: the second argument points to 120 writable bytes, the size of `struct io_uring_params`.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("io_uring_setup: {error} (containers often forbid it; kernel.io_uring_disabled and seccomp decide)"));
    }
    // SAFETY: `fd` was just returned by the kernel and belongs to nobody else.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}

/// Hints the processor to fetch the cache line of `addr`. Any address is allowed.
#[inline(always)]
pub fn prefetch_line(addr: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and has no effect beyond the cache, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(addr as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = addr;
}

/// Makes `len` bytes at `first` count as initialised, whatever they are: an object's padding has no value that the language defines, but
/// must be copied and summed like the rest.
///
/// # Safety
/// The bytes are mapped, and nobody writes them until the caller has stopped reading them.
#[inline(always)]
pub unsafe fn freeze(first: *const u8, len: usize) {
    // SAFETY: the block is empty. To the compiler it may have stored a value to each of these bytes that had none; it leaves all
    // others alone, so readers of the object's own fields are not concerned.
    unsafe { std::arch::asm!("/* {0} {1} */", in(reg) first, in(reg) len, options(nostack, preserves_flags)) };
}

/// The system's number of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: takes no argument and can't fail.
    unsafe { libc::gettid() }
}

/// The name of a thread of this process as the system knows it, at most 15 bytes. Nothing if it has ended.
pub fn thread_name(id: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
