//! `farmemd`: lends this machine's memory to programs that use farptr.
#![forbid(unsafe_code)]

use clap::Parser;
use farptr_runtime::bytes::parse_size;
use farptr_runtime::slab::Backing;
use farptr_server::config::DEFAULT_MAX_CONNECTIONS;
use farptr_server::{Config, Daemon, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Where to listen if nothing is said.
const DEFAULT_LISTEN: &str = "127.0.0.1:7070";

/// Bad input: what was asked for can't be done as asked.
const BAD_INPUT: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  farmemd --capacity 4GiB                                  at 127.0.0.1:7070
  farmemd --capacity 4GiB --listen 10.0.0.2:7070           to other machines
  farmemd --capacity 4GiB --unix /run/user/1000/farmemd    to this machine's programs, at the speed of memory
  farmemd --capacity 64GiB --rdma 10.0.0.2:7471            to machines that reach this one by RDMA
  farmemd --capacity 64GiB --unix /run/farmemd --listen 10.0.0.2:7070 --backing /dev/dax0.0
                                                           a device's memory, both ways; one borrower at a time";

/// Lends memory of this machine to programs that use farptr: over TCP, by RDMA, or to programs on this machine, which map it.
///
/// The memory is taken at the start. When farmemd is ready, it prints one line on stdout:
///
///     farmemd ready: tcp:127.0.0.1:7070 capacity=4294967296 slab=16777216
///
/// Programs then borrow slabs of it; what a program borrowed is zeroed and lent again when the program has gone.
/// SIGTERM or SIGINT ends farmemd, and with it all that it lent. What happens is logged to stderr (RUST_LOG=warn for less, RUST_LOG=debug
/// for each connection as well).
/// There is no password and no encryption: whoever can reach the address can borrow. Listen on a network you trust; a socket's
/// permissions (--unix-mode) say who can reach that.
#[derive(Debug, Parser)]
#[command(version, about, verbatim_doc_comment, after_help = EXAMPLES)]
struct Cli {
    /// Where to listen for TCP. Port 0 lets the system choose one. [default: 127.0.0.1:7070, unless --unix or --rdma is given]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to listen for RDMA: an address of an RDMA device, or 0.0.0.0 for all of them. Borrowers read and write what they borrow by
    /// themselves, and what is lent is locked in memory (ulimit -l). Only in a farmemd that was built with --features rdma.
    #[arg(long, value_name = "HOST:PORT")]
    rdma: Option<String>,
    /// Make a socket of this name, for programs on this machine. Each slab they borrow is a file in memory that they map, so that
    /// farmemd has no part in reading and writing it.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// Who may connect to that socket: its permissions, in octal.
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = parse_mode, requires = "unix")]
    unix_mode: u32,
    /// Lend this instead of ordinary memory: a folder of a file system in memory (/dev/shm, a hugetlbfs mount), in which each slab
    /// becomes a file, or one file or device that can be mapped (/dev/dax0.0), which has one borrower at a time.
    #[arg(long, value_name = "PATH")]
    backing: Option<PathBuf>,
    /// How much memory to lend, for example 4GiB or 512MiB.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    capacity: u64,
    /// Size of a slab, the unit of lending: a multiple of 256KiB.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size, default_value = "16MiB")]
    slab_size: u64,
    /// Threads that serve. Unless given: one for every two processors, at least 1 and at most 4.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How long, in microseconds, a thread that has just served spins before it sleeps. 0 saves processor time and costs each
    /// lone miss the tens of microseconds that waking takes.
    #[arg(long, value_name = "US", default_value = "200")]
    spin_us: u64,
    /// Connections at once. A program has one for every thread that misses, and one more.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_CONNECTIONS)]
    max_connections: usize,
}

enum Event {
    Started(Result<Daemon, StartError>),
    Signal,
    WorkerEnded(String),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            // Clap's first paragraph is what is wrong; the rest is advice at length.
            let text = error.to_string();
            let first: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
            eprintln!("farmemd: {}; see farmemd --help", first.join(" ").trim_start_matches("error: "));
            return ExitCode::from(BAD_INPUT);
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match serve(cli) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("farmemd: {message}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn serve(cli: Cli) -> Result<ExitCode, String> {
    let slab_bytes =
        u32::try_from(cli.slab_size).map_err(|_| "a slab must be smaller than 4GiB; give a smaller --slab-size".to_string())?;
    // Who asks for a socket on this machine, or for RDMA, has not asked to be reached by TCP.
    let elsewhere = cli.unix.is_some() || cli.rdma.is_some();
    let listen = cli.listen.or_else(|| (!elsewhere).then(|| DEFAULT_LISTEN.to_string()));
    let config = Config {
        listen,
        rdma: cli.rdma,
        unix: cli.unix,
        unix_mode: cli.unix_mode,
        backing: cli.backing.as_deref().map(Backing::at),
        capacity: cli.capacity,
        slab_bytes,
        threads: cli.threads,
        spin: Duration::from_micros(cli.spin_us.min(1_000_000)),
        max_connections: cli.max_connections,
    };
    let (tell, events) = mpsc::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("can't watch for signals: {error}"))?;
    let on_signal = tell.clone();
    spawn("farmemd-signals", move || {
        for _ in signals.forever() {
            if on_signal.send(Event::Signal).is_err() {
                return;
            }
        }
    })?;
    // In a thread of its own, because taking much memory takes long, and a signal meanwhile is to end the program.
    spawn("farmemd-start", move || {
        let on_end = tell.clone();
        let started = Daemon::start_with(config, move |why| {
            // Fails only when this program is ending anyway.
            let _ = on_end.send(Event::WorkerEnded(why));
        });
        let _ = tell.send(Event::Started(started));
    })?;
    let mut running = None;
    loop {
        match events.recv() {
            Ok(Event::Started(started)) => {
                let daemon = started.map_err(|error| error.to_string())?;
                announce(&daemon);
                running = Some(daemon);
            }
            Ok(Event::Signal) => {
                if let Some(daemon) = &running {
                    tracing::info!(lent = daemon.lent_bytes(), connections = daemon.connections(), "asked to end");
                }
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Event::WorkerEnded(why)) => {
                eprintln!("farmemd: a worker ended: {why}; start farmemd again");
                return Ok(ExitCode::FAILURE);
            }
            Err(mpsc::RecvError) => return Ok(ExitCode::FAILURE),
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(|_| ()).map_err(|error| format!("can't start a thread: {error}"))
}

fn announce(daemon: &Daemon) {
    let addresses: Vec<_> = daemon.addresses().iter().map(ToString::to_string).collect();
    let (addresses, capacity, slab) = (addresses.join(" "), daemon.capacity(), daemon.slab_bytes());
    let mut stdout = std::io::stdout();
    let said = writeln!(stdout, "farmemd ready: {addresses} capacity={capacity} slab={slab}").and_then(|()| stdout.flush());
    if said.is_err() {
        tracing::warn!(addresses, "ready, but nobody reads stdout");
    }
}

/// Permission bits as chmod takes them.
fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| "write three octal digits, for example 660 for the user and the group".into())
}
