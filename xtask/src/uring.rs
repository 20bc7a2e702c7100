//! io_uring: whether it is there, and how to take it away.
//!
//! Container runtimes forbid io_uring by a seccomp filter that makes its system calls fail with `EPERM`. [`forbid`] does the
//! same to the calling thread and to what it will execute, without privileges and for good: filters can't be taken back.

use std::io;

/// The system calls to refuse. From 424 on every architecture numbers its system calls alike (but for Alpha), so the filter
/// need not look at the architecture.
const REFUSED: [libc::c_long; 3] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Offset of the system call's number in what a filter sees: `struct seccomp_data` begins with it.
const NUMBER_OFFSET: u32 = 0;

/// Why there is no io_uring here, if there is none.
pub(crate) fn missing() -> Option<String> {
    // SAFETY: with a null pointer for its parameters the call creates nothing, and fails in one way or the other.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1 as libc::c_long, std::ptr::null_mut::<libc::c_void>()) };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // It is permitted, and has looked at the parameters.
        Some(libc::EFAULT | libc::EINVAL) => None,
        _ if result >= 0 => None,
        _ => Some(format!("io_uring is not available: {error}")),
    }
}

/// Refuses io_uring to the calling thread from now on, and to every process it starts.
pub(crate) fn forbid() -> Result<(), String> {
    let failed = |what: &str| format!("can't forbid io_uring: {what}: {}", io::Error::last_os_error());
    // SAFETY: plain numbers; an unprivileged process may only load a filter after it has promised never to gain privileges.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(failed("no_new_privs"));
    }
    let mut filter = filter();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to as many instructions as it says, which outlive the call; the kernel copies and checks them.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } != 0 {
        return Err(failed("seccomp"));
    }
    Ok(())
}

/// Why [`forbid`] would not work here, if so. Tries it, in a thread that ends.
pub(crate) fn cannot_forbid() -> Option<String> {
    std::thread::spawn(forbid).join().expect("forbid doesn't panic").err()
}

/// Load the number; for each refused one, jump to the last instruction; allow; refuse with `EPERM`.
fn filter() -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER_OFFSET)];
    for (i, number) in REFUSED.iter().enumerate() {
        let to_refusal = (REFUSED.len() - i) as u8;
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter.push(libc::sock_filter { code, jt: to_refusal, jf: 0, k: *number as u32 });
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::thread;

    #[test]
    fn what_is_forbidden_is_missing_in_that_thread_alone() {
        let before = missing();
        if let Some(reason) = cannot_forbid() {
            use std::io::Write;
            writeln!(io::stderr(), "SKIPPED: {reason}").unwrap();
            return;
        }
        let inside = thread::spawn(|| forbid().map(|()| missing())).join().unwrap();
        let refused = inside.unwrap().expect("io_uring_setup fails under the filter");
        assert!(refused.contains("Operation not permitted"), "{refused}");
        assert_eq!(missing(), before, "the filter is the thread's own");
    }

    #[test]
    fn other_work_goes_on_under_the_filter() {
        if cannot_forbid().is_some() {
            return; // said above
        }
        let status = thread::spawn(|| forbid().map(|()| Command::new("true").status())).join().unwrap();
        assert!(status.unwrap().unwrap().success());
    }
}
